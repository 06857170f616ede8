import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra batch is not installed")

import pyarrow.parquet as pq

from feredge.runtime import classify, open_detector, open_engine
from feredge.runtime.batch import batch
from feredge.runtime.batch import run as batch_run
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.errors import FeredgeError, OutputError, SourceError, UsageError
from feredge.runtime.quality import measure_quality
from feredge.runtime.sources.pictures import read_picture


def labels_of(rows):
    return {row["unit"]: [face["label"] for face in row["faces"]] for row in rows}


def test_every_picture_is_one_row_with_the_faces_of_classify(options, engine, pictures, read_rows):
    summary = batch(options())
    rows = read_rows(options().output)
    assert [row["unit"] for row in rows] == [str(path) for path in sorted(pictures.iterdir())]
    with open_engine(engine) as opened, open_detector() as detector:
        for row in rows:
            picture = read_picture(Path(row["unit"]))
            faces = classify(picture, detector, opened)
            assert (row["height"], row["width"]) == picture.shape[:2] and row["error"] is None
            assert np.array_equal([face["box"] for face in row["faces"]],
                                  faces.boxes_xyxy.tolist())
            assert np.allclose([face["probabilities"] for face in row["faces"]],
                               faces.probabilities, atol=1e-5)
            assert [face["label"] for face in row["faces"]] == [
                opened.spec.labels[k] for k in faces.label_ids]
    faces = sum(len(row["faces"]) for row in rows)
    assert (summary.rows, summary.faces, summary.errors) == (20, faces, 0) and faces > 10
    assert set(summary.stages_ms) == {"read", "detect", "classify", "write"}


def test_rows_have_the_labels_of_fer_run(options, engine, pictures, tmp_path, read_rows):
    from feredge.runtime.fer_run import main

    batch(options())
    lines = tmp_path / "faces.jsonl"
    assert main(["--engine", str(engine), "--source", str(pictures), "--jsonl", str(lines)]) == 0
    results = [json.loads(line) for line in lines.read_text().splitlines()]
    assert labels_of(read_rows(options().output)) == {
        result["source"]: [face["label"] for face in result["faces"]] for result in results}


def test_faces_have_their_quality_with_landmarks_and_the_settings_say_so(
        options, pictures, read_rows):
    batch(options(landmarks=True))
    for row in read_rows(options().output):
        picture = read_picture(Path(row["unit"]))
        with open_detector() as detector:
            quality = measure_quality(picture, detector.detect(picture))
        assert [face["sharpness"] for face in row["faces"]] == pytest.approx(quality.sharpness)
        assert [face["yaw"] for face in row["faces"]] == pytest.approx(quality.yaw)
    with pytest.raises(UsageError, match="landmarks was True, is False"):
        batch(options())


def test_the_schema_carries_the_spec_and_the_settings(options, engine):
    from feredge.runtime.spec import ModelSpec

    batch(options())
    file = next(Path(options().output).glob("*.parquet"))
    metadata = pq.read_schema(file).metadata
    with open_engine(engine) as opened:
        assert ModelSpec.from_json(metadata[b"feredge"].decode()) == opened.spec
    assert json.loads(metadata[b"feredge.batch"])["detector_size"] == "auto"


def test_duckdb_and_pandas_read_the_output(options):
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    summary = batch(options())
    query = f"select count(*) from (select unnest(faces) from '{options().output}/*.parquet')"
    assert duckdb.sql(query).fetchall() == [(summary.faces,)]
    assert len(pandas.read_parquet(options().output)) == 20


def test_a_finished_run_starts_nothing(options, monkeypatch):
    first = batch(options())
    monkeypatch.setattr(batch_run, "open_backend", lambda *_: pytest.fail("workers were started"))
    second = batch(options())
    assert (second.rows, second.faces, second.new_rows) == (first.rows, first.faces, 0)


def test_new_inputs_are_appended(options, pictures, read_rows):
    batch(options())
    files = {path: path.stat().st_mtime_ns for path in Path(options().output).glob("*.parquet")}
    shutil.copy(pictures / "0003.jpg", pictures / "later.jpg")
    summary = batch(options())
    assert (summary.inputs, summary.new_rows, summary.rows) == (1, 1, 21)
    assert len({row["unit"] for row in read_rows(options().output)}) == 21
    assert files == {path: path.stat().st_mtime_ns for path in files}


def test_a_missing_file_of_the_output_is_made_again_with_the_same_content(options):
    batch(options())
    file = next(Path(options().output).glob("*.parquet"))
    content, rows = file.read_bytes(), pq.read_metadata(file).num_rows
    file.unlink()
    assert batch(options()).new_rows == rows in (8, 4)
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "change, message",
    [
        ({"detector": DetectorOptions(size_px=640)}, "detector_size was auto, is 640"),
        ({"max_faces": 1}, "max_faces was None, is 1"),
        ({"track": False}, "track was True, is False"),
    ],
    ids=["detector size", "max faces", "track"],
)
def test_other_settings_are_refused_with_the_difference(options, change, message):
    batch(options())
    with pytest.raises(UsageError, match=message):
        batch(options(**change))


def test_another_engine_is_refused_with_both_hashes(options, new_engine, tmp_path):
    batch(options())
    other = new_engine(tmp_path / "other.onnx", seed=1)
    with pytest.raises(UsageError, match=r"engine was small.onnx, SHA-256 \w{64}, is other.onnx"):
        batch(options(engine=str(other)))


def test_sizes_of_chunks_may_change_between_runs(options):
    batch(options(chunk=8))
    assert batch(options(chunk=4, segment_s=5)).new_rows == 0


def test_damaged_pictures_are_error_rows(options, pictures, read_rows):
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "text.png").write_text("no picture")
    (pictures / "cut.jpg").write_bytes((pictures / "0000.jpg").read_bytes()[:2000])
    summary = batch(options())
    rows = read_rows(options().output)
    errors = {Path(row["unit"]).name: row["error"] for row in rows if row["error"]}
    assert set(errors) == {"empty.jpg", "text.png", "cut.jpg"}
    assert all(name in text for name, text in errors.items())
    assert (summary.rows, summary.errors) == (23, 3)


@pytest.mark.slow
def test_a_picture_that_ends_its_process_is_an_error_row(options, pictures, poison, read_rows):
    for name in ("0005-poison.jpg", "0006-poison.jpg"):
        shutil.copy(pictures / "0005.jpg", pictures / name)
    summary = batch(options())
    errors = {Path(row["unit"]).name: row["error"] for row in read_rows(options().output)
              if row["error"]}
    assert errors == dict.fromkeys(("0005-poison.jpg", "0006-poison.jpg"),
                                   "its worker process ended 3 times")
    assert (summary.rows, summary.errors) == (22, 2)
    assert not list(Path(options().output, "_work").glob("*-*"))


@pytest.mark.parametrize("flags, code", [([], 0), (["--strict"], 1)], ids=["default", "strict"])
def test_errors_end_with_1_if_asked(command, pictures, flags, code):
    (pictures / "empty.jpg").write_bytes(b"")
    done = subprocess.run([*command, *flags, "--json"], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["errors"] == 1


def test_a_source_without_inputs_is_an_error(options, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SourceError, match="contains no pictures"):
        batch(options(sources=(str(tmp_path / "nothing"),)))
    with pytest.raises(SourceError, match="does not exist"):
        batch(options(sources=(str(tmp_path / "missing"),)))


def test_an_untrained_engine_ends_the_run(options, new_engine, tmp_path):
    untrained = new_engine(tmp_path / "untrained.onnx", random_weights=True)
    with pytest.raises(FeredgeError, match="random weights"):
        batch(options(engine=str(untrained)))


def test_two_drivers_do_not_share_an_output(options):
    from feredge.runtime.batch.lock import lock_output
    from feredge.runtime.batch.storage import OutputFolder

    with lock_output(OutputFolder(options().output)):
        with pytest.raises(OutputError, match=f"in use by another .*process {os.getpid()} on"):
            batch(options())
    assert batch(options()).rows == 20


@pytest.mark.slow
def test_a_driver_that_is_killed_is_resumed_without_loss(command, pictures, new_pictures,
                                                         tmp_path, read_rows):
    new_pictures(pictures, 300)
    driver = subprocess.Popen([*command, "--chunk", "8"], stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("out/*.parquet"))) < 3 and driver.poll() is None:
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    finished = len(list(tmp_path.glob("out/*.parquet")))
    assert 3 <= finished < 38
    assert subprocess.run([*command, "--chunk", "8"], capture_output=True).returncode == 0
    units = [row["unit"] for row in read_rows(tmp_path / "out")]
    assert len(units) == len(set(units)) == 300


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_leaves_no_partial_file(command, tmp_path, read_rows):
    limit = 6_000  # bytes per file: less than an output file, more than the plan
    done = subprocess.run(
        [*command, "--chunk", "20"], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.returncode == 2, done.stderr
    assert "cannot be written: File too large" in done.stderr.splitlines()[-1]
    complete = list(tmp_path.glob("out/*.parquet"))
    assert subprocess.run([*command, "--chunk", "20"], capture_output=True).returncode == 0
    assert len(read_rows(tmp_path / "out")) == 20 and len(complete) < 3
