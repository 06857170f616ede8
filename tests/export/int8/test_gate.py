"""The accuracy gate as fer-export applies it, on a small seeded network."""

import json
import shutil

import pytest
import torch

from feredge.export.fer_export import main
from feredge.export.models.manet import MaNet
from feredge.runtime.sources.pictures import find_pictures

LABELS = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"
pytestmark = pytest.mark.filterwarnings("ignore:.*recommended")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """A small MA-Net whose heads are so steep that its label depends on the face."""
    torch.manual_seed(0)
    state = MaNet(classes=8, width=0.25).state_dict()
    for head in ("fc_1.weight", "fc_2.weight"):
        state[head] *= 1000
    path = tmp_path_factory.mktemp("seeded") / "seeded.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def labeled(faces_48px, tmp_path_factory):
    """Twenty-five faces in the folders of their classes."""
    folder = tmp_path_factory.mktemp("labeled")
    for file in find_pictures(faces_48px)[::150]:
        (folder / file.parent.name).mkdir(exist_ok=True)
        shutil.copy(file, folder / file.parent.name)
    return folder


@pytest.fixture
def export(seeded, tmp_path, capfd):
    """Export the seeded network; returns exit code, stderr, the files and the report's INT8."""

    def call(*arguments):
        output = tmp_path / "out"
        code = main(["--model", "manet", "--checkpoint", str(seeded), "--side", "32", "--labels",
                     LABELS, "--int8", "--target", "onnx", "--output", str(output),
                     *map(str, arguments)])
        report = output / "manet.report.json"
        files = sorted(file.name for file in output.iterdir()) if output.is_dir() else []
        document = json.loads(report.read_text()) if report.is_file() else {}
        return code, capfd.readouterr().err, files, document

    return call


@pytest.mark.slow
def test_where_nothing_holds_the_report_alone_is_left(export, labeled, tmp_path):
    assert export("--calibration-data", labeled, "--min-agreement", "0", "--max-class-drop", "100",
                  "--calibration-method", "max")[0] == 0
    ranges = json.loads((tmp_path / "out" / "manet.ranges.json").read_text())
    for methods in ranges["values"].values():
        methods["max"] = [edge / 1000 for edge in methods["max"]]
    (tmp_path / "clipping.json").write_text(json.dumps(ranges))
    shutil.rmtree(tmp_path / "out")
    code, err, files, report = export("--calibration-data", labeled, "--min-agreement", "1",
                                      "--ranges", tmp_path / "clipping.json", "--report", "html")
    assert code == 2 and "INT8 costs more than allowed" in err
    assert files == ["manet.report.html", "manet.report.json"]
    assert "INT8 costs more than allowed" in report["failed"]
    assert not report["int8"]["gate"]["holds"] and len(report["int8"]["gate"]["trials"]) > 1


@pytest.mark.slow
def test_the_outcome_and_the_labelled_faces_stand_in_the_report(export, labeled):
    code, _, files, report = export("--calibration-data", labeled, "--min-agreement", "0",
                                    "--max-class-drop", "100", "--validation-data", labeled,
                                    "--calibration-method", "max")
    assert code == 0 and "manet.int8.onnx" in files
    assert report["int8"]["gate"]["holds"] and not report["int8"]["gate"]["kept_float"]
    assert report["int8"]["validation"]["fp32"]["faces"] == len(find_pictures(labeled))
    assert set(report["int8"]["validation"]["graphs"]) == {"tensorrt", "cpu-7bit-rounded"}


@pytest.mark.parametrize("arguments, said", [
    (("--min-agreement", "0.9"), "pass --calibration-data DIR"),
    (("--max-accuracy-drop", "1"), "--validation-data DIR"),
    (("--sensitivity",), "--sensitivity needs faces"),
    (("--validation-data", "nowhere"), "--validation-data nowhere: there is no such folder"),
    (("--validation-data", ".", "--max-accuracy-drop", "-1"), "expected points"),
])
def test_what_cannot_be_judged_is_said_before_any_long_step(export, arguments, said):
    code, err, files, _ = export(*arguments)
    assert code == 2 and said in err and err.count("\n") == 1 and not files


def test_what_only_int8_can_use_is_refused_without_it(line):
    said = line("--model", "manet", "--min-agreement", "0.9", "--sensitivity")
    assert "--min-agreement, --sensitivity belong to --int8" in said


@pytest.mark.slow
def test_three_faces_fail_unless_the_export_is_forced(export, labeled, tmp_path):
    (tmp_path / "three").mkdir()
    for file in find_pictures(labeled)[:3]:
        shutil.copy(file, tmp_path / "three")
    arguments = ("--calibration-data", tmp_path / "three", "--calibration-method", "max")
    code, err, files, _ = export(*arguments)
    assert code == 2 and "3 calibration faces are too few to check INT8 on" in err and not files
    code, _, files, report = export(*arguments, "--force")
    assert code == 0 and "manet.int8.onnx" in files and "gate" not in report["int8"]
