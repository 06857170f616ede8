"""Where fer-export takes INT8 ranges from: measured, cached, given, bundled."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from feredge.calibration.measure.methods import METHODS
from feredge.calibration.ranges import Ranges
from feredge.export.fer_export import main
from feredge.export.int8.ranges import identity, ranges_of
from feredge.export.models.manet import MaNet
from feredge.export.options import ExportOptions
from feredge.export.prepare import face_folder, open_job
from feredge.export.steps import Steps
from feredge.runtime.errors import CalibrationError
from feredge.runtime.sources.pictures import find_pictures

pytestmark = pytest.mark.filterwarnings("ignore:.*recommended")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """A small MA-Net of eight classes, saved as a plain state dict."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("seeded") / "seeded.pth"
    torch.save(MaNet(classes=8, width=0.25).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def labeled(faces_48px, tmp_path_factory):
    """Seventy faces in the folders of their classes, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("labeled")
    for file in find_pictures(faces_48px)[::50]:
        (folder / file.parent.name).mkdir(exist_ok=True)
        shutil.copy(file, folder / file.parent.name)
    (folder / "notes.txt").write_text("no picture")
    return folder


LABELS = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"


@pytest.fixture(scope="module")
def job(seeded, tmp_path_factory):
    options = ExportOptions("manet", str(seeded), side=32, labels=tuple(LABELS.split(",")))
    return open_job(options, tmp_path_factory.mktemp("job"), "manet", Steps(quiet=True))


@pytest.fixture
def ranges_for(job):
    """Return what an export with these options would take, and where it is from."""

    def take(**options):
        chosen = ExportOptions("manet", **{key: str(value) for key, value in options.items()})
        faces = face_folder(chosen, job.spec) if chosen.calibration_data else None
        return ranges_of(replace(job, options=chosen, faces=faces))

    return take


@pytest.mark.slow
def test_the_command_reports_the_sweep_and_whose_choice_is_in_use(
    seeded, labeled, tmp_path, capfd
):
    assert main(["--model", "manet", "--checkpoint", str(seeded), "--side", "32", "--labels",
                 LABELS, "--int8", "--target", "onnx", "--output", str(tmp_path / "out"),
                 "--calibration-data", str(labeled)]) == 0
    int8 = json.loads((tmp_path / "out" / "manet.report.json").read_text())["int8"]
    ranges = Ranges.from_json((tmp_path / "out" / "manet.ranges.json").read_text())
    assert int8["ranges"] == "measured" and int8["method"] == ranges.method
    assert [row["method"] for row in int8["sweep"]] == list(METHODS)
    assert int8["sweep"][0]["accuracy"] is not None, "the folders are called after the labels"
    assert f"by {ranges.method}, on {ranges.faces} faces" in capfd.readouterr().out


@pytest.mark.slow
def test_ranges_are_measured_once_whichever_method_is_asked_for(ranges_for, labeled):
    ranges, origin = ranges_for(calibration_data=labeled)
    assert origin == "measured" and len(ranges.sweep) == len(METHODS)
    assert ranges_for(calibration_data=labeled) == (ranges, "cached")
    named = replace(ranges, method="entropy")
    assert ranges_for(calibration_data=labeled, calibration_method="entropy") == (named, "cached")


def test_a_method_that_is_named_needs_no_sweep_and_its_file_can_be_given(
    ranges_for, labeled, tmp_path
):
    ranges, origin = ranges_for(calibration_data=labeled, calibration_method="mse")
    assert (origin, ranges.method, ranges.sweep) == ("measured", "mse", [])
    (tmp_path / "kept.json").write_text(ranges.to_json())
    assert ranges_for(ranges=tmp_path / "kept.json") == (ranges, "given")
    largest, _ = ranges_for(ranges=tmp_path / "kept.json", calibration_method="max")
    assert largest.method == "max"


@pytest.mark.parametrize("count", [1, 3])
def test_a_few_faces_give_extremes_and_a_warning(count, ranges_for, labeled, tmp_path):
    (tmp_path / "few").mkdir()
    for file in find_pictures(labeled)[:count]:
        shutil.copy(file, tmp_path / "few")
    with pytest.warns(UserWarning, match="500 faces or more are recommended"):
        ranges, _ = ranges_for(calibration_data=tmp_path / "few")
    assert ranges.method == "max" and ranges.faces == count


def test_a_cache_that_cannot_be_written_stops_nothing(ranges_for, labeled, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.warns(UserWarning, match="could not be cached"):
        ranges_for(calibration_data=labeled, calibration_method="max")


def test_ranges_that_do_not_belong_are_refused_with_the_reason(
    ranges_for, job, exported, tmp_path
):
    bundled = exported / "manet.ranges.json"
    with pytest.raises(CalibrationError, match="belong to weights"):
        ranges_for(ranges=bundled)
    own = replace(Ranges.from_json(bundled.read_text()), **identity(job.spec))
    files = {name: tmp_path / f"{name}.json" for name in ("own", "crop", "truncated")}
    files["own"].write_text(own.to_json())
    files["crop"].write_text(replace(own, crop={**own.crop, "scale": 1.3}).to_json())
    files["truncated"].write_text(own.to_json()[:5000])
    assert ranges_for(ranges=files["own"]) == (own, "given")
    cases = [(files["crop"], "crop scale 1.3, this export's is 1.0"),
             (files["truncated"], "not a ranges file, or a truncated one"),
             (tmp_path / "none.json", "cannot be read"), (tmp_path, "cannot be read")]
    for file, said in cases:
        with pytest.raises(CalibrationError, match=said):
            ranges_for(ranges=file)
