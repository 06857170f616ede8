"""`--landmarks`: the points and the quality of each face in JSON lines and CSV."""

import csv
import json

import cv2
import numpy as np
import pytest

from feredge.runtime import open_detector
from feredge.runtime.fer_run import main
from feredge.runtime.outputs.landmarks import LANDMARKS
from feredge.runtime.quality import measure_quality


@pytest.fixture
def run(tmp_path):
    """Run the command; returns the faces of the JSON lines and the rows of the CSV."""

    def call(source, *options):
        lines, table = tmp_path / "faces.jsonl", tmp_path / "faces.csv"
        assert main(["--source", str(source), "--jsonl", str(lines), "--csv", str(table),
                     *options]) == 0
        faces = [face for line in lines.read_text().splitlines()
                 for face in json.loads(line)["faces"]]
        return faces, list(csv.DictReader(table.open()))

    return call


def test_the_landmarks_are_the_detectors_and_the_quality_that_of_the_confidence(
        run, astronaut, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), astronaut)
    (face,), (row,) = run(tmp_path / "a.png", "--landmarks")
    with open_detector() as detector:
        detected = detector.detect(astronaut)
    quality = measure_quality(astronaut, detected)
    points = np.array([face["landmarks"][name] for name in LANDMARKS])
    np.testing.assert_allclose(points, detected.landmarks[0], atol=0.01)
    assert face["landmarks"]["right_eye"][0] < face["landmarks"]["left_eye"][0]
    assert face["landmarks"]["nose"][1] < face["landmarks"]["mouth_left"][1]
    expected = {"size_px": quality.sizes_px, "sharpness": quality.sharpness,
                "roll_deg": quality.roll_deg, "yaw": quality.yaw}
    assert {name: face[name] for name in expected} == {
        name: pytest.approx(values[0], abs=0.01) for name, values in expected.items()}
    assert [float(row[f"{name}_{axis}"]) for name in LANDMARKS for axis in "xy"] == points.ravel(
        ).tolist()
    assert {name: float(row[name]) for name in expected} == {name: face[name] for name in expected}


def test_without_the_option_nothing_is_added(run, astronaut, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), astronaut)
    (face,), (row,) = run(tmp_path / "a.png")
    assert not {"landmarks", "sharpness", "yaw"} & set(face) and "nose_x" not in row


def test_blurred_and_skipped_frames_have_the_sharpness_of_the_detection(
        run, astronaut, write_clip):
    clip = write_clip([astronaut[:320, 60:380]] * 6)
    plain, _ = run(clip, "--landmarks", "--no-images")
    blurred, _ = run(clip, "--landmarks", "--no-images", "--blur")
    assert [face["sharpness"] for face in blurred] == [face["sharpness"] for face in plain]
    skipped, rows = run(clip, "--landmarks", "--detect-every", "3")
    assert len(skipped) == len(rows) == 6
    assert len({face["sharpness"] for face in skipped}) == 2


def test_landmarks_without_a_file_for_them_are_one_line(capsys):
    assert main(["--source", "a.png", "--landmarks"]) == 2
    assert "--landmarks needs --jsonl or --csv" in capsys.readouterr().err
