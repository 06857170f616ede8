"""Recorded sources at their own pace, and in a loop."""

import itertools
import threading
import time

import cv2
import pytest

from feredge.runtime.sources import SourceOptions, frames_of, open_source, open_sources


@pytest.fixture
def clip(write_clip, astronaut):
    return str(write_clip([cv2.resize(astronaut, (64, 64))] * 10))


def test_a_video_plays_at_its_own_pace(clip):
    source = open_source(clip, SourceOptions(is_paced=True))
    start_s = time.monotonic()
    late_s = [time.monotonic() - start_s - frame.time_s for frame in frames_of(source)]
    assert len(late_s) == 10 and min(late_s) >= 0
    assert source.expected_frames == 10 and not source.is_live
    source.close()


def test_a_reader_that_is_late_delays_the_rest_and_loses_nothing(clip):
    source = open_source(clip, SourceOptions(is_paced=True))
    frames = frames_of(source)
    next(frames)
    time.sleep(0.5)
    start_s = time.monotonic()
    assert [frame.index for frame in frames] == list(range(1, 10))
    assert time.monotonic() - start_s > 7 / 25
    source.close()


def test_in_a_loop_indices_and_times_continue(clip):
    source = open_source(clip, SourceOptions(is_loop=True))
    frames = list(itertools.islice(frames_of(source), 25))
    assert [frame.index for frame in frames] == list(range(25))
    steps_s = [b.time_s - a.time_s for a, b in itertools.pairwise(frames)]
    assert all(step_s == pytest.approx(1 / 25, abs=0.002) for step_s in steps_s)
    assert source.expected_frames == 0
    source.close()


def test_a_folder_is_a_slide_show(tmp_path, astronaut, monkeypatch):
    monkeypatch.setattr("feredge.runtime.sources.paced.PICTURE_S", 0.05)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), astronaut)
    (tmp_path / "c.png").write_bytes(b"broken")
    source = open_source(str(tmp_path), SourceOptions(is_loop=True))
    start_s = time.monotonic()
    names = [frame.source[-5:] for frame in itertools.islice(frames_of(source), 5)]
    assert names == ["a.png", "b.png", "a.png", "b.png", "a.png"]
    assert time.monotonic() - start_s > 0.2 and len(source.problems) == 1
    assert not source.is_ordered
    source.close()


def test_stopping_ends_a_wait_immediately(tmp_path, astronaut, monkeypatch):
    monkeypatch.setattr("feredge.runtime.sources.paced.PICTURE_S", 60)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), astronaut)
    source = open_sources([str(tmp_path / "a.png"), str(tmp_path / "b.png")],
                          SourceOptions(is_paced=True))
    frames = frames_of(source)
    next(frames)
    threading.Timer(0.05, source.stop).start()
    start_s = time.monotonic()
    assert next(frames, None) is None and time.monotonic() - start_s < 30
    source.close()
