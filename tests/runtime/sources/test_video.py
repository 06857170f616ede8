"""Times of videos never fall, complete files are never called truncated, rates are plausible."""

import itertools
import math
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feredge.runtime.errors import SourceError
from feredge.runtime.sources import frames_of, open_source
from feredge.runtime.sources.clock import VideoClock
from feredge.runtime.sources.container import is_cut_short


@pytest.fixture
def encode(tmp_path):
    """Encode moving pictures; `times` are presentation times in frames, `shift` is their start."""
    av = pytest.importorskip("av")

    def write(name, codec="libx264", times=range(50), shift=0, b_frames=2, fps=25):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=fps)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.time_base = Fraction(1, fps)
            stream.codec_context.max_b_frames = b_frames
            for k, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(
                    np.full((48, 64, 3), 4 * k % 250, np.uint8), format="rgb24")
                frame.pts, frame.time_base = time + shift, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


def read(path):
    source = open_source(str(path))
    frames = list(frames_of(source))
    source.close()
    times_s = [frame.time_s for frame in frames]
    assert times_s[0] == 0 and all(a < b for a, b in itertools.pairwise(times_s))
    return source, times_s


@pytest.mark.parametrize("name, codec", [
    ("raw.h264", "libx264"), ("a.avi", "libx264"), ("b.avi", "mpeg4"), ("c.mpg", "mpeg2video"),
    ("d.ts", "libx264"), ("e.mkv", "libx264"), ("f.mp4", "libx264"), ("g.mov", "mpeg4"),
], ids=lambda value: value)
def test_frames_without_or_with_falling_timestamps_follow_each_other(encode, name, codec):
    source, times_s = read(encode(name, codec))
    np.testing.assert_allclose(times_s, np.arange(50) / 25, atol=0.002)
    assert source.fps == pytest.approx(25) and not source.problems
    assert 0 <= source.expected_frames < 10**6  # an estimate


def test_the_times_of_joined_parts_continue(encode, tmp_path):
    part = encode("part.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(part * 3)
    _, times_s = read(tmp_path / "joined.ts")
    np.testing.assert_allclose(times_s, np.arange(150) / 25, atol=0.01)


def test_variable_rates_keep_their_times(encode):
    times = [*range(20), *range(20, 80, 3), 100, 101]
    _, times_s = read(encode("a.mp4", times=times))
    np.testing.assert_allclose(times_s, np.array(times) / 25, atol=0.002)


def test_a_part_that_starts_late_is_complete_and_one_cut_short_is_not(encode, tmp_path):
    part = encode("part.mkv", shift=1000)
    assert read(part)[0].problems == []
    for name in ("a.mkv", "b.mp4", "c.avi"):
        whole = encode(name, "mpeg4" if name == "c.avi" else "libx264")
        assert not is_cut_short(whole)
        cut = tmp_path / f"cut{whole.suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
        assert is_cut_short(cut)
    source, _ = read(tmp_path / "cut.mkv")
    assert len(source.problems) == 1 and "truncated" in source.problems[0]


@pytest.mark.parametrize("content", [
    b"", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\xff", b"RIFF", b"RIFF\xff\xff\xff\x7fAVI ",
    b"\0\0\0\x01ftyp" + b"\xff" * 8, bytes(100), b"\0\0\0\x08moov" * 1000])
def test_any_file_can_be_asked_whether_it_is_cut_short(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert is_cut_short(tmp_path / "a") in (True, False)


def test_an_impossible_rate_is_capped_and_named(encode, caplog):
    source = open_source(str(encode("a.mp4", "mpeg4", fps=30_000, b_frames=0)))
    assert source.fps == 1000 and "30000 frames/s; 1000 is used" in caplog.text
    source.close()


def test_a_rate_that_the_frames_contradict_is_measured(encode, caplog):
    source = open_source(str(encode("a.mp4", "mpeg4", times=range(0, 1200, 24), fps=600,
                                    b_frames=0)))
    assert source.fps == pytest.approx(25, abs=0.5)
    source.close()


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(0.0), min_size=1),
       st.floats(0.1, 1000))
def test_times_increase_whatever_the_timestamps_are(timestamps_s, fps):
    clock = VideoClock(fps)
    times_s = [clock.next(timestamp_s) for timestamp_s in timestamps_s]
    assert times_s[0] == 0
    assert all(a < b and math.isfinite(b) for a, b in itertools.pairwise(times_s))


@pytest.mark.parametrize("name, count, fps", [
    ("08-raw-h264-has-no-times/raw.h264", 50, 25), ("31-joined-ts/joined.ts", 100, 25),
    ("10-segment-called-truncated/segment1.mkv", 120, 25),
    ("11-output-error-hidden/fps90000.mp4", 200, 1000),
    ("11-output-error-hidden/wide9000.mkv", 2, 10)])
def test_the_shared_videos_are_read_completely(shared_file, name, count, fps):
    source, times_s = read(shared_file(f"cases/{name}"))
    assert len(times_s) == count and source.fps == fps and not source.problems


def test_the_shared_truncated_video_is_named(shared_file):
    source, _ = read(shared_file("cases/10-segment-called-truncated/truncated.mkv"))
    assert "truncated" in source.problems[0]


def test_a_video_without_frames_is_an_error(encode, tmp_path):
    whole = Path(encode("a.mkv")).read_bytes()
    (tmp_path / "b.mkv").write_bytes(whole[:600])
    with pytest.raises(SourceError, match=r"truncated|no frame"):
        list(frames_of(open_source(str(tmp_path / "b.mkv"))))
    assert cv2.VideoCapture(str(tmp_path / "a.mkv")).read()[0]
