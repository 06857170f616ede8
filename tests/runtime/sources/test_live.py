"""Live sources: the newest frame, and what becomes of one that is lost."""

import itertools
import logging
import threading
import time

import cv2
import numpy as np
import pytest

from feredge.runtime.errors import SourceError
from feredge.runtime.sources import SourceOptions, frames_of, live, live_reader, open_source
from feredge.runtime.sources.live import LiveSource
from feredge.runtime.sources.multi import MultiSource
from feredge.runtime.sources.watchdog import limit_silence

PICTURE = np.zeros((2, 2, 3), np.uint8)


class FakeCapture:
    """A capture under a test's control: `read` calls what it is given."""

    def __init__(self, read):
        self.read, self.released = read, False

    def get(self, prop):
        return 0.0

    def release(self):
        self.released = True


def slowly():
    time.sleep(0.005)
    return True, PICTURE


def delivering(count):
    """A capture that delivers a few frames and is lost."""
    left = iter(range(count))
    return FakeCapture(lambda: (next(left, None) is not None, PICTURE))


def hanging(released):
    """A capture that delivers one frame and hangs until it is released."""
    left = iter([(True, PICTURE)])
    return FakeCapture(lambda: next(left, None) or (released.wait(60), PICTURE))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What takes seconds on a device takes a test a tenth of one."""
    for name, seconds in {"FIRST_WAIT_S": 0.01, "LONGEST_WAIT_S": 0.05, "FAILED_READ_S": 0.001,
                          "WATCH_S": 0.01}.items():
        monkeypatch.setattr(live if name == "WATCH_S" else live_reader, name, seconds)


@pytest.fixture
def opened():
    """Open live sources that are closed after the test."""
    sources = []

    def open_one(open_capture, retry_s=None, name="camera 7"):
        sources.append(LiveSource(name, open_capture, retry_s))
        return sources[-1]

    yield open_one
    for source in sources:
        source.close()


def eventually(condition):
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_only_the_newest_frame_is_kept_and_its_age_is_known(opened):
    capture = FakeCapture(slowly)
    source = opened(lambda: capture)
    frames = frames_of(source)
    first = next(frames)
    eventually(lambda: source.health()[0].frames > first.index + 11)
    second = next(frames)
    assert second.index - first.index > 10 and second.time_s > first.time_s
    assert 0 <= second.age_ms < 30_000
    assert source.health()[0].state == "delivering" and source.health()[0].error is None
    source.close()
    assert capture.released and source.health()[0].state == "ended"


def test_the_rate_is_known_once_the_source_is_open(opened, monkeypatch):
    capture = FakeCapture(slowly)
    monkeypatch.setattr(capture, "get", lambda prop: 12.0 if prop == cv2.CAP_PROP_FPS else 0.0)
    source = opened(lambda: capture)
    assert next(frames_of(source)) is not None and source.fps == 12.0


def test_the_clock_rate_of_a_network_camera_is_not_its_frame_rate(opened, monkeypatch):
    capture = FakeCapture(slowly)
    monkeypatch.setattr(capture, "get", lambda prop: 90_000.0)
    source = opened(lambda: capture)
    assert next(frames_of(source)) is not None and source.fps == 25


def test_without_patience_a_source_that_stops_is_an_error(opened):
    with pytest.raises(SourceError, match="camera 7: stopped delivering after 3 frames"):
        list(frames_of(opened(lambda: delivering(3), retry_s=0)))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 4)], ids=["grey", "NV12", "BGRx"])
def test_frames_that_are_not_bgr_are_an_error_that_says_so(opened, shape):
    capture = FakeCapture(lambda: (True, np.zeros(shape, np.uint8)))
    with pytest.raises(SourceError, match=r"camera 7: delivers frames of shape .*format=BGR"):
        next(frames_of(opened(lambda: capture)))
    eventually(lambda: capture.released)


@pytest.mark.parametrize("retry_s", [None, 0])
def test_a_source_that_opens_but_never_delivers_is_an_error_at_once(opened, retry_s):
    with pytest.raises(SourceError, match="camera 7: delivers no frame"):
        next(frames_of(opened(lambda: delivering(0), retry_s)))


def test_a_source_that_was_tried_again_for_long_enough_is_an_error(opened):
    captures = []
    source = opened(lambda: captures.append(delivering(0)) or captures[-1], retry_s=0.3)
    with pytest.raises(SourceError, match="camera 7: delivers no frame"):
        next(frames_of(source))
    assert len(captures) > 1 and source.health()[0].state == "ended"
    eventually(lambda: all(capture.released for capture in captures))


def test_numbers_and_times_go_on_when_a_source_is_opened_again(opened, caplog):
    caplog.set_level(logging.INFO, "feredge")
    attempts = itertools.count()

    def open_capture():  # every third attempt succeeds
        if next(attempts) % 3:
            raise SourceError("camera 7 is not there")
        left = iter(range(2))
        return FakeCapture(lambda: slowly() if next(left, None) is not None else (False, None))

    source = opened(open_capture)
    frames = list(itertools.islice(frames_of(source), 8))
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert all(a.time_s < b.time_s for a, b in itertools.pairwise(frames))
    health, = source.health()
    assert health.reconnects >= 3 and "camera 7" in health.error
    source.close()
    lines = [record.getMessage() for record in caplog.records]
    assert all("trying again" in line for line in lines[::2])
    assert all(line.startswith("camera 7: back after") for line in lines[1::2])
    assert caplog.records[0].event == "lost" and caplog.records[1].event == "back"


def test_failed_reads_and_errors_on_a_stream_that_goes_on_lose_nothing(opened):
    def broken():
        raise cv2.error("no memory")

    reads = itertools.cycle([slowly, lambda: (False, None), lambda: (True, None), broken, slowly])
    source = opened(lambda: FakeCapture(lambda: next(reads)()), retry_s=0)
    assert len(list(itertools.islice(frames_of(source), 20))) == 20
    assert source.health()[0].reconnects == 0


def test_a_reader_that_hangs_is_replaced_and_its_late_frames_are_ignored(opened, monkeypatch):
    monkeypatch.setattr(live_reader, "STALL_S", 0.2)
    released = threading.Event()
    stuck, healthy = hanging(released), FakeCapture(slowly)
    captures = iter([stuck, healthy])
    source = opened(lambda: next(captures))
    frames = frames_of(source)
    assert next(frames).index == 0
    assert next(frames).index >= 1 and source.health()[0].reconnects == 1
    assert not stuck.released
    released.set()
    eventually(lambda: stuck.released)  # by the thread that hung in it
    indices = [frame.index for frame in itertools.islice(frames, 5)]
    assert indices == sorted(set(indices)) and not healthy.released


def test_a_driver_that_always_hangs_does_not_pile_up_threads(opened, monkeypatch):
    monkeypatch.setattr(live_reader, "STALL_S", 0.02)
    released, captures = threading.Event(), []
    source = opened(lambda: captures.append(hanging(released)) or captures[-1], retry_s=0.5)
    with pytest.raises(SourceError, match="camera 7: no frame for"):
        list(frames_of(source))
    assert len(captures) == live.MOST_HANGING + 1
    released.set()
    eventually(lambda: all(capture.released for capture in captures))


def test_a_hanging_source_is_an_error_without_patience_and_does_not_hang_the_end(
    opened, monkeypatch
):
    monkeypatch.setattr(live_reader, "STALL_S", 0.1)
    released = threading.Event()
    capture = FakeCapture(lambda: (released.wait(60), None))
    source = opened(lambda: capture, retry_s=0)
    with pytest.raises(SourceError, match="no frame for"):
        next(frames_of(source))
    source.close()
    assert not capture.released and source.reader.is_alive()
    released.set()
    eventually(lambda: capture.released)


@pytest.mark.parametrize("read", [slowly, lambda: (False, None)], ids=["delivering", "lost"])
def test_stopping_ends_the_iteration_at_once(opened, read):
    source = opened(lambda: FakeCapture(read), retry_s=60)
    source.stop()
    assert next(frames_of(source), None) is None


def test_attempts_grow_apart_to_a_second_and_never_keep_step(monkeypatch):
    monkeypatch.undo()
    waits_s = list(itertools.islice(live_reader.back_off(), 50))
    assert 0.125 <= waits_s[0] <= 0.25 and 0.25 <= waits_s[1] <= 0.5
    assert all(0.5 <= wait_s <= 1 for wait_s in waits_s[2:]) and len(set(waits_s)) > 40


def test_the_watchdog_ends_a_source_that_hangs_and_no_other(opened, monkeypatch):
    monkeypatch.setattr("feredge.runtime.sources.watchdog.CHECK_S", 0.01)
    released = threading.Event()
    source = opened(lambda: hanging(released))
    with pytest.raises(SourceError, match=r"camera 7: no frame for 0.3 s \(`max_silence_s`\)"):
        with limit_silence(source, 0.3):
            list(frames_of(source))
    released.set()
    several = MultiSource([opened(lambda: FakeCapture(slowly), name="other"), source])
    with limit_silence(several, 30) as none:
        assert none is None


def test_a_network_camera_is_a_live_source(network_camera):
    source = open_source(network_camera.url)
    assert source.is_live
    frames = frames_of(source)
    assert next(frames).frame_bgr.shape == (240, 320, 3)
    assert next(frames).age_ms < 30_000
    source.close()


def test_a_network_camera_that_is_restarted_is_found_again(network_camera, caplog):
    caplog.set_level(logging.INFO, "feredge")
    source = open_source(network_camera.url)
    frames = frames_of(source)
    last = next(frames)
    for restart in range(3):
        network_camera.stop()
        eventually(lambda: source.health()[0].state == "connecting")
        network_camera.start()
        while source.health()[0].reconnects == restart:
            frame = next(frames)
            assert frame.index > last.index and frame.time_s > last.time_s
            last = frame
    source.close()
    assert [record.event for record in caplog.records] == ["lost", "back"] * 3


def test_a_network_camera_that_is_switched_on_late_is_waited_for(network_camera):
    network_camera.stop()
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(network_camera.url)
    source = open_source(network_camera.url, SourceOptions(retry_s=60))
    assert source.health()[0].frames == 0
    network_camera.start()
    assert next(frames_of(source)).frame_bgr.shape == (240, 320, 3)
    source.close()


def test_a_network_camera_that_stalls_is_opened_again(network_camera, monkeypatch):
    monkeypatch.setattr(live_reader, "STALL_S", 1)
    source = open_source(network_camera.url, SourceOptions(retry_s=60))
    frames = frames_of(source)
    next(frames)
    network_camera.stalled = True
    threading.Timer(2, setattr, (network_camera, "stalled", False)).start()
    while not source.health()[0].reconnects:
        next(frames)
    assert "no frame for 1 s" in source.health()[0].error
    source.close()


@pytest.mark.parametrize("broken", [
    pytest.param(lambda whole, larger: whole[: len(whole) // 3], id="cut"),
    pytest.param(lambda whole, larger: b"not a picture", id="garbage"),
    pytest.param(lambda whole, larger: b"", id="empty"),
    pytest.param(lambda whole, larger: larger, id="larger"),  # OpenCV scales it to the first size
])
def test_a_network_camera_may_send_what_it_likes(network_camera, astronaut, broken):
    source = open_source(network_camera.url)
    frames = frames_of(source)
    next(frames)
    whole = network_camera.jpeg
    larger = cv2.imencode(".jpg", cv2.resize(astronaut, (640, 480)))[1].tobytes()
    network_camera.jpeg = broken(whole, larger)
    time.sleep(0.3)
    network_camera.jpeg = whole
    count = source.health()[0].frames
    while (frame := next(frames)).index < count + 5:
        pass
    expected = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(frame.frame_bgr.astype(int) - expected).mean() < 3
    source.close()


def test_a_password_is_no_part_of_a_sources_name(network_camera):
    source = open_source(network_camera.url.replace("//", "//admin:secret@"))
    assert "secret" not in next(frames_of(source)).source
    source.close()
