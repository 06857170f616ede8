import itertools
import json
import subprocess
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra batch is not installed")
av = pytest.importorskip("av", reason="the extra batch is not installed")

from feredge.runtime.batch import batch  # noqa: E402
from feredge.runtime.batch.video import open_video  # noqa: E402
from feredge.runtime.quality import QUALITY_FIELDS  # noqa: E402

FPS, FRAMES = 25, 300
INFINITE = float("inf")


def scenes(astronaut):
    """Two persons that move, of which one leaves the frame for a while."""
    face = cv2.resize(astronaut[30:250, 120:340], (96, 96))
    other = cv2.flip(face, 1)
    for k in range(FRAMES):
        frame = np.full((200, 360, 3), 90 + k % 60, np.uint8)
        x = int(40 + 30 * np.sin(k / 25))
        frame[20:116, x : x + 96] = cv2.add(face, np.full(4, k % 40, float))
        if not 120 <= k < 160:
            y = int(60 + 30 * np.cos(k / 30))
            frame[y : y + 96, 220:316] = other
        yield frame


def encode(path, frames, times, codec="libx264", options=None):
    """Write frames with their times in ticks of 1/1000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options or {"g": "50", "bf": "3"})
        stream.width, stream.height, stream.pix_fmt = 360, 200, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for frame_bgr, time in zip(frames, times):
            frame = av.VideoFrame.from_ndarray(frame_bgr, "bgr24")
            frame.pts, frame.time_base = time, stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def videos(tmp_path_factory, astronaut):
    """The same scenes at a constant and at a variable rate."""
    folder, frames = tmp_path_factory.mktemp("videos"), list(scenes(astronaut))
    constant = [k * 1000 // FPS for k in range(FRAMES)]
    gaps = np.random.default_rng(0).choice([20, 33, 40, 100, 250], FRAMES)
    variable = np.cumsum(gaps).tolist()
    open_gop = {"g": "60", "bf": "3", "x264-params": "open-gop=1"}
    return {
        "constant": encode(folder / "constant.mp4", frames, constant),
        "variable": encode(folder / "variable.mp4", frames, variable),
        "open-gop": encode(folder / "open-gop.mkv", frames, variable, options=open_gop),
    }


@pytest.mark.parametrize("name", ["constant", "variable", "open-gop"])
def test_segments_contain_the_frames_of_one_pass(videos, name):
    def frames(start_s, end_s):
        with open_video(open(videos[name], "rb"), name) as video:
            return [(frame.time_s, frame.frame_bgr) for frame in video.frames(start_s, end_s)]

    whole = frames(-INFINITE, INFINITE)
    assert len(whole) == FRAMES
    bounds = [-INFINITE, 0.5, 1.7, 5.0, 5.04, 9.9, INFINITE]
    joined = [frame for start_s, end_s in itertools.pairwise(bounds)
              for frame in frames(start_s, end_s)]
    assert [time_s for time_s, _ in joined] == [time_s for time_s, _ in whole]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(whole, joined))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["constant", "variable"])
def test_segments_have_the_tracks_labels_and_probabilities_of_one_pass(
    videos, name, options, tmp_path, read_rows, engine
):
    """One pass is `fer-run`, which reads with OpenCV: frames, tracks and numbers are the same."""
    from feredge.runtime.fer_run import main

    lines = tmp_path / "faces.jsonl"
    source = str(videos[name])
    assert main(["--engine", str(engine), "--source", source, "--jsonl", str(lines),
                 "--landmarks"]) == 0
    output = str(tmp_path / "out")
    batch(options(sources=(source,), output=output, segment_s=2, workers=2, landmarks=True))
    rows = read_rows(output)
    results = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["frame"] for row in rows] == [result["frame"] for result in results]
    assert len(rows) == FRAMES
    tracks = set()
    for row, result in zip(rows, results):
        assert row["time_s"] == pytest.approx(result["time_s"], abs=1e-4)
        fields = ("track", "label")
        assert [[face[field] for field in fields] for face in row["faces"]] == [
            [face[field] for field in fields] for face in result["faces"]]
        assert np.allclose([face["probabilities"] for face in row["faces"]],
                           [list(face["probabilities"].values()) for face in result["faces"]],
                           atol=1e-5)
        for one, other in zip(row["faces"], result["faces"]):
            assert [one[name] for name in QUALITY_FIELDS] == pytest.approx(
                [other[name] for name in QUALITY_FIELDS], abs=0.006)
        tracks |= {face["track"] for face in row["faces"]}
    assert {1, 2} <= tracks


@pytest.mark.slow
def test_rows_do_not_depend_on_the_length_of_segments(videos, options, tmp_path, read_rows):
    outputs = [tmp_path / f"out{segment_s}" for segment_s in (2, 60)]
    for output, segment_s in zip(outputs, (2, 60)):
        batch(options(sources=(str(videos["variable"]),), output=str(output),
                      segment_s=segment_s))
        assert not list((output / "_segments").glob("*"))
    assert read_rows(outputs[0]) == read_rows(outputs[1])


def test_finished_segments_are_kept_by_the_next_run(videos, options, tmp_path, monkeypatch):
    """The run fails at the join; the next one only joins."""
    from feredge.runtime.batch import worker
    from feredge.runtime.batch.backends import processes
    from feredge.runtime.errors import OutputError

    monkeypatch.setattr(processes, "ProcessBackend", InProcess)
    given = options(sources=(str(videos["constant"]),), segment_s=2)

    def fail(_):
        raise OutputError("full")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "join_parts", fail)
        with pytest.raises(Exception, match="full"):
            batch(given)
    assert len(list(Path(given.output, "_segments").glob("*.parquet"))) == 6
    monkeypatch.setattr(worker, "segment_rows", lambda _: pytest.fail("classified again"))
    assert batch(given).rows == FRAMES


class InProcess:
    """A backend whose one worker is this process."""

    def __init__(self, job, workers):
        from feredge.runtime.batch.worker import Worker

        self.worker, self.workers, self.ended = Worker(job), 1, []

    def has_idle(self):
        return not self.ended

    def submit(self, task):
        self.ended.append((task, self.worker.run(task)))

    def wait(self, timeout_s):
        ended, self.ended = self.ended, []
        return ended

    def close(self):
        pass


def test_a_video_that_cannot_be_read_is_one_error_row(options, tmp_path, read_rows):
    (tmp_path / "text.mp4").write_text("no video")
    summary = batch(options(sources=(str(tmp_path / "text.mp4"),)))
    rows = read_rows(options().output)
    assert (summary.rows, summary.errors) == (1, 1)
    assert "contains no video that can be decoded" in rows[0]["error"]


def test_a_video_without_times_is_read_as_one_segment(options, videos, tmp_path, read_rows):
    raw = tmp_path / "raw.m4v"
    with av.open(str(videos["constant"])) as container, open(raw, "wb") as file:
        stream = container.streams.video[0]
        filter = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in container.demux(stream):
            for converted in filter.filter(packet if packet.size else None):
                file.write(bytes(converted))
    batch(options(sources=(str(raw),), segment_s=2))
    rows = read_rows(options().output)
    assert [row["frame"] for row in rows] == list(range(FRAMES))
    assert all(later["time_s"] > row["time_s"] for row, later in itertools.pairwise(rows))


def test_a_rotated_video_is_upright(videos, tmp_path):
    """As OpenCV shows it."""
    rotated = tmp_path / "rotated.mp4"
    plain = encode(tmp_path / "plain.mp4", [np.full((200, 360, 3), 60, np.uint8)] * 3, [0, 40, 80])
    subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-i", plain, "-metadata:s:v",
                    "rotate=90", "-c", "copy", rotated], check=True)
    expected = cv2.VideoCapture(str(rotated)).read()[1]
    with open_video(open(rotated, "rb"), "rotated") as video:
        frame = next(video.frames(-INFINITE, INFINITE))
    assert frame.frame_bgr.shape == expected.shape == (360, 200, 3)


@pytest.mark.slow
def test_a_video_that_ends_its_process_is_an_error_row(
    options, videos, poison, tmp_path, read_rows
):
    import shutil

    for name in ("fine", "poison"):
        shutil.copy(videos["constant"], tmp_path / f"{name}.mp4")
    summary = batch(options(sources=(str(tmp_path / "*.mp4"),)))
    assert (summary.rows, summary.errors) == (FRAMES + 1, 1)
