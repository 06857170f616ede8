"""--sweep-precisions: an authors' checkpoint becomes the table of its data set in two commands."""

import json
import shutil

import pytest
import torch

from feredge.benchmarks.eval.datasets import RAF_DB
from feredge.benchmarks.fer_eval import main as fer_eval
from feredge.export.fer_export import main as fer_export
from feredge.export.int8.precisions import SWEPT_METHODS
from feredge.export.report.html import html_report
from feredge.runtime import open_engine
from feredge.runtime.sources.pictures import find_pictures

FILES = ("authors.onnx", "authors.fp16.onnx", "authors.int8.max.onnx", "authors.int8.entropy.onnx")


@pytest.fixture
def authors_checkpoint(tmp_path):
    """A narrow MA-Net of seven classes, as the authors' script saves one."""
    from feredge.export.models.manet import MaNet

    torch.manual_seed(0)
    state = {f"module.{key}": value for key, value in MaNet(7, width=0.25).state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "authors.pth.tar")
    return tmp_path / "authors.pth.tar"


@pytest.fixture
def raf_db(tmp_path, faces_48px):
    """A small tree in RAF-DB's layout; also a folder of a few calibration faces."""
    folders = {folder.name.partition("_")[2]: folder for folder in faces_48px.iterdir()}
    root, calibration, lines = tmp_path / "raf", tmp_path / "faces", []
    (root / "basic/Image/aligned").mkdir(parents=True)
    (root / "basic/EmoLabel").mkdir()
    calibration.mkdir()
    for number, label in enumerate(RAF_DB, 1):
        face, *others = find_pictures(folders[label])[:5]
        shutil.copy(face, root / f"basic/Image/aligned/test_{number:04}_aligned.jpg")
        lines.append(f"test_{number:04}.jpg {number}")
        for other in others:
            shutil.copy(other, calibration / f"{label}-{other.name}")
    (root / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines))
    return root, calibration


def test_an_authors_checkpoint_becomes_the_table_of_its_data_set(
        authors_checkpoint, raf_db, tmp_path, capsys):
    root, calibration = raf_db
    output, sheet = tmp_path / "out", tmp_path / "eval.json"
    assert fer_export(["--model", "manet", "--checkpoint", str(authors_checkpoint),
                       "--side", "32", "--name", "authors", "--sweep-precisions",
                       "--calibration-data", str(calibration), "--calibration-method", "max",
                       "--min-agreement", "0", "--target", "onnx",
                       "--output", str(output), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    rows = {row["file"]: row for row in report["precisions"]["rows"]}
    assert tuple(rows) == FILES and report["precisions"]["faces"] == "faces"
    assert rows["authors.onnx"]["agreement"]["top1"] == 1
    assert all(row["agreement"]["faces"] == 28 for row in rows.values())
    sizes = [rows[name]["bytes"] for name in FILES]
    assert sizes[0] > 1.8 * sizes[1] > 1.8 * sizes[2]
    assert "INT8, entropy" in html_report(report)
    for method in SWEPT_METHODS:
        with open_engine(output / f"authors.int8.{method}.onnx") as engine:
            assert engine.spec.calibration["method"] == method
    engines = [word for name in FILES for word in ("--engine", str(output / name))]
    assert fer_eval([*engines, "--dataset", "raf-db", "--root", str(root),
                     "--json", str(sheet)]) == 0
    table = capsys.readouterr().out
    assert "MA-Net (published): 88.40%" in table
    assert all(f"  {name}: " in table.partition("published and measured")[2] for name in FILES)
    assert [row["engine"] for row in json.loads(sheet.read_text())["engines"]] == list(FILES)
