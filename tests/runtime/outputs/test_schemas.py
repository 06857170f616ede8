"""What fer-run writes is what the schema files say, without a field that they do not list."""

import csv
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from feredge.runtime.fer_run import main
from feredge.runtime.outputs import text
from feredge.runtime.outputs.landmarks import LANDMARK_COLUMNS
from feredge.runtime.outputs.text import FORMAT

NAMES = ("frame", "tracks", "summary", "log")


def schema(name):
    return json.loads((files("feredge.runtime.outputs") / "schemas" / f"{name}.schema.json")
                      .read_text())


def check(name, record):
    Draft202012Validator(schema(name)).validate(record)


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def run(tmp_path, capfd):
    """Run the command; returns its JSON lines, the summary on stdout, and the log lines."""

    def call(source, *options):
        lines = tmp_path / "faces.jsonl"
        main(["--source", str(source), "--jsonl", str(lines), "--json", "--log-json",
              *map(str, options)])
        out, err = capfd.readouterr()
        return records(lines), json.loads(out), [json.loads(line) for line in err.splitlines()]

    return call


@pytest.fixture
def picture(tmp_path, astronaut):
    cv2.imwrite(str(tmp_path / "a.png"), astronaut)
    return tmp_path / "a.png"


@pytest.fixture
def clip(astronaut, write_clip):
    """A face that is in view for half a second, then gone for more than a second."""
    face = cv2.resize(astronaut, (256, 256))
    return write_clip([face] * 12 + [np.zeros_like(face)] * 30)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_and_has_the_version_of_the_output(name):
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$id"] == f"urn:feredge:{name}:{FORMAT}"


def test_a_picture_is_as_its_schema_says(run, picture):
    (line,), summary, log = run(picture)
    check("frame", line)
    check("summary", summary)
    for record in log:
        check("log", record)
    assert line["faces"][0]["track"] is None and line["format"] == FORMAT


def test_tracks_and_events_are_as_their_schemas_say(run, clip, tmp_path):
    lines, summary, _ = run(clip, "--summary", tmp_path / "tracks.json", "--landmarks",
                            "--min-confidence", "0")
    for line in lines:
        check("frame", line)
    events = [event["event"] for line in lines for event in line.get("events", ())]
    assert events == ["enter", "exit"]
    assert "nose" in lines[0]["faces"][0]["landmarks"] and "confidence" in lines[0]["faces"][0]
    tracks = json.loads((tmp_path / "tracks.json").read_text())
    check("tracks", tracks)
    check("summary", summary)
    assert len(tracks["tracks"]) == 1


def test_unsure_faces_are_as_their_schemas_say(run, clip, tmp_path):
    lines, summary, _ = run(clip, "--summary", tmp_path / "tracks.json", "--min-confidence", "1")
    for line in lines:
        check("frame", line)
    assert lines[0]["faces"][0]["label"] is None and summary["unsure"] == summary["faces"]
    check("tracks", json.loads((tmp_path / "tracks.json").read_text()))


def test_a_live_source_its_loss_and_the_error_are_as_their_schemas_say(
        run, network_camera, tmp_path):
    lines = tmp_path / "live.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "feredge.runtime.fer_run", "--source", network_camera.url,
         "--jsonl", str(lines), "--log-json", "--retry", "0"], stderr=subprocess.PIPE, text=True)
    while not (lines.exists() and lines.read_text().count("\n") > 3):
        assert process.poll() is None, process.stderr.read()
    network_camera.stop()
    log = [json.loads(line) for line in process.communicate()[1].splitlines()]
    assert process.returncode == 2
    for line in records(lines):
        check("frame", line)
        assert line["age_ms"] >= 0
    for record in log:
        check("log", record)
    assert "error" in {record["level"] for record in log}


@pytest.mark.parametrize("where", [[], ["faces", 0], ["faces", 0, "landmarks"], ["events", 0]])
def test_a_field_that_the_schema_does_not_list_is_refused(run, clip, where):
    line = next(line for line in run(clip, "--landmarks")[0] if "events" in line)
    check("frame", line)
    part = line
    for step in where:
        part = part[step]
    part["other"] = 1
    with pytest.raises(ValidationError, match="'other' was unexpected"):
        check("frame", line)


def test_the_columns_of_the_csv_are_those_of_the_readme(picture, tmp_path):
    assert main(["--source", str(picture), "--csv", str(tmp_path / "f.csv"), "--landmarks"]) == 0
    (row,) = csv.DictReader((tmp_path / "f.csv").open())
    before = ["frame", "source", "time_s", "track", "x0", "y0", "x1", "y1", "score", "label"]
    after = [*LANDMARK_COLUMNS, "event"]
    assert list(row)[:10] == before and list(row)[-len(after):] == after
    readme = (Path(text.__file__).parent / "README.md").read_text()
    documented = [*before, *LANDMARK_COLUMNS[:2], *LANDMARK_COLUMNS[8:], "event"]
    assert [name for name in documented if f"`{name}`" not in readme] == []
