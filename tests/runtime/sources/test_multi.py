"""Several sources concurrently: one batch, no source waits for another, track ids are unique."""

import json
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import cv2
import numpy as np
import pytest

from feredge.runtime import open_engine
from feredge.runtime.errors import SourceError, UsageError
from feredge.runtime.fer_run import main
from feredge.runtime.sources import SourceOptions, open_source, open_sources
from feredge.runtime.sources.capture import call_in_thread
from feredge.runtime.sources.multi import MultiSource

BOXES = np.array([[180, 60, 300, 200], [150, 40, 320, 220]], np.float32)  # of the portrait's face


@pytest.fixture
def silent_address():
    """An address that accepts a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/stream"


def frames_of(several, enough):
    """Take rounds until `enough(counts)`; returns how many frames each source gave."""
    counts, deadline_s = {source.name: 0 for source in several.parts}, time.monotonic() + 30
    for frames in several.batches():
        assert len({frame.source for frame in frames}) == len(frames)
        for frame in frames:
            counts[frame.source] += 1
        assert time.monotonic() < deadline_s
        if enough(counts):
            several.stop()
    return counts


def test_faces_of_several_frames_are_one_batch(exported, astronaut, monkeypatch):
    small = cv2.resize(astronaut, (256, 256))
    with open_engine(exported / "manet.int8.onnx") as engine:
        expected = [engine.classify(astronaut, BOXES), engine.classify(small, BOXES[:0]),
                    engine.classify(small, BOXES[:1] / 2)]
        sizes, infer = [], engine._infer
        monkeypatch.setattr(engine, "_infer",
                            lambda crops: sizes.append(len(crops)) or infer(crops))
        got = engine.classify_frames([astronaut, small, small],
                                     [BOXES, BOXES[:0], BOXES[:1] / 2])
        assert sizes == [3]
        engine.max_batch = 2
        split = engine.classify_frames([astronaut, small], [BOXES[:1], BOXES / 2])
    for first, second in zip(expected, got):
        np.testing.assert_allclose(first, second, atol=1e-5)
    assert sizes == [3, 2, 1] and [len(rows) for rows in split] == [1, 2]


def test_a_camera_that_stalls_or_goes_away_holds_up_no_other(cameras):
    several = open_sources([camera.url for camera in cameras])
    first, second = (camera.url for camera in cameras)
    cameras[0].stalled = True
    threading.Timer(0.5, cameras[1].stop).start()
    threading.Timer(1.0, cameras[1].start).start()
    threading.Timer(1.0, setattr, (cameras[0], "stalled", False)).start()
    counts = frames_of(several, lambda counts: counts[first] > 20 and counts[second] > 40)
    several.close()
    assert counts[first] > 20 and several.parts[1].health()[0].reconnects == 1


def test_sources_that_differ_in_their_tokens_alone_have_numbered_names(network_camera):
    url = network_camera.url
    several = open_sources([f"{url}?token={token}" for token in ("hush1", "hush2", "hush3")])
    expected = {f"{url}?token=***{number}" for number in ("", " #2", " #3")}
    assert {source.name for source in several.parts} == expected
    seen = set()
    for frames in several.batches():
        seen |= {frame.source for frame in frames}
        if seen == expected:
            several.stop()
    several.close()
    with pytest.raises(UsageError, match=r"token=\*\*\* is given twice"):
        open_sources([f"{url}?token=hush1", f"{url}?token=hush1"])


def test_an_address_that_never_answers_holds_up_no_start(cameras, silent_address):
    dead = silent_address.replace("http", "rtsp")
    several = open_sources([cameras[0].url, dead], SourceOptions(retry_s=60))
    start_s = time.monotonic()
    counts = frames_of(several, lambda counts: counts[cameras[0].url] > 20)
    assert time.monotonic() - start_s < 8 and counts[dead] == 0
    several.close()


def test_a_stream_that_hangs_while_it_opens_delays_no_other(cameras, silent_address):
    """OpenCV opens one stream after the other, unless FFmpeg is configured as thread-safe."""
    hanging = call_in_thread(partial(open_source, silent_address))
    time.sleep(0.5)
    start_s = time.monotonic()
    several = open_sources([camera.url for camera in cameras])
    assert time.monotonic() - start_s < 5 and not hanging.done()
    several.close()


def test_videos_lose_no_frame_and_end_one_by_one(write_clip, astronaut):
    clips = [str(write_clip([astronaut] * count, f"{count}.mp4")) for count in (5, 12)]
    several = open_sources(clips)
    seen = {clip: [] for clip in clips}
    for frames in several.batches():
        for frame in frames:
            seen[frame.source].append(frame.index)
    assert list(seen.values()) == [list(range(5)), list(range(12))] and several.problems == []
    several.close()


@pytest.mark.parametrize("retry", [(), ("--retry", "inf")], ids=["opening", "running"])
def test_a_signal_ends_a_run_although_sources_hang(
    exported, detector_path, cameras, silent_address, retry
):
    hanging = [silent_address.replace("http", "rtsp" if retry else "http") + str(k)
               for k in range(4)]
    sources = [word for where in [cameras[0].url, *hanging] for word in ("--source", where)]
    with subprocess.Popen(
        [sys.executable, "-m", "feredge.runtime.fer_run", "--engine",
         str(exported / "manet.int8.onnx"), "--detector", str(detector_path), *sources, *retry,
         "--jsonl", "-"], stdout=subprocess.PIPE, text=True,
    ) as process:
        if retry:
            for _ in range(20):
                assert cameras[0].url in process.stdout.readline()
        else:
            time.sleep(3)
        process.terminate()
        assert process.wait(timeout=4) == 0


class Broken:
    """A source that fails immediately."""

    is_live = is_ordered = True
    problems = ()

    def __init__(self, error=SourceError, name="broken"):
        self.error, self.name = error, name

    def batches(self):
        raise self.error("broken: gone")
        yield

    def stop(self):
        pass

    close = stop


def test_one_that_fails_is_named_and_all_that_fail_are_an_error(write_clip, astronaut):
    several = MultiSource([*open_sources([str(write_clip([astronaut] * 3, f"{k}.mp4"))
                                      for k in range(2)]).parts, Broken()])
    assert sum(len(frames) for frames in several.batches()) == 6
    assert several.problems == ["broken: gone"]
    with pytest.raises(SourceError, match="broken: gone"):
        list(MultiSource([Broken()]).batches())
    with pytest.raises(RuntimeError, match="broken: gone"):
        list(MultiSource([*several.parts, Broken(RuntimeError, "other")]).batches())


def test_what_does_not_go_together_is_refused(tmp_path, write_clip, astronaut):
    clip = str(write_clip([astronaut] * 2))
    cv2.imwrite(str(tmp_path / "a.png"), astronaut)
    with pytest.raises(UsageError, match=r"clip\.mp4 is given twice"):
        open_sources([clip, clip])
    with pytest.raises(UsageError, match=r"clip\.mp4 is given twice"):
        open_sources([clip, clip.replace("/clip", "/./clip")])
    with pytest.raises(UsageError, match="put pictures into one folder"):
        open_sources([clip, str(tmp_path / "a.png")])
    with pytest.raises(SourceError, match="does not exist"):
        open_sources([clip, str(tmp_path / "none.mp4")])


def test_fer_run_names_everybody_once_and_writes_a_video_each(
    exported, detector_path, tmp_path, write_clip, astronaut, capsys
):
    clips = [str(write_clip([np.roll(cv2.resize(astronaut, size), k, axis=1) for k in range(20)],
                            f"{size[0]}.mp4")) for size in ((320, 320), (400, 300))]
    arguments = ["--engine", str(exported / "manet.int8.onnx"), "--detector", str(detector_path)]
    for clip in clips:
        arguments += ["--source", clip]
    lines, videos = tmp_path / "out.jsonl", tmp_path / "out"
    assert main([*arguments, "--jsonl", str(lines), "--output", str(videos), "--reuse", "4"]) == 0
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    for clip in clips:
        assert [r["frame"] for r in records if r["source"] == clip] == list(range(20))
    tracks = {clip: {face["track"] for record in records[20:] if record["source"] == clip
                     for face in record["faces"]} for clip in clips}
    assert sorted(tracks.values(), key=min) == [{1}, {2}]
    assert {face["label"] for record in records for face in record["faces"]} == {"happiness"}
    names = sorted(path.name for path in videos.iterdir())
    assert [name[0] for name in names] == ["0", "1"]
    assert names[0].endswith("320.mp4.mp4") and names[1].endswith("400.mp4.mp4")
    sizes = [cv2.VideoCapture(str(path)).read()[1].shape for path in sorted(videos.iterdir())]
    assert sizes == [(320, 320, 3), (300, 400, 3)]
    assert "40 frames" in capsys.readouterr().err
    assert main([*arguments, "--output", str(tmp_path / "out.mp4")]) == 2
    assert "several sources need a folder" in capsys.readouterr().err
