import http.server
import threading
import time

import cv2
import numpy as np
import pytest

from feredge.runtime import sources
from feredge.runtime.errors import SourceError
from feredge.runtime.sources import Live, Pictures, Video, open_camera, open_source


def numbered(count, height=64, width=64):
    """Frames that are told apart by their brightness."""
    return [np.full((height, width, 3), 8 * k % 248, np.uint8) for k in range(count)]


class FakeCapture:
    """A capture under a test's control: `read` calls what it is given."""

    def __init__(self, read):
        self.read, self.released = read, False

    def get(self, prop):
        return 0.0

    def release(self):
        self.released = True


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_a_video_file_loses_no_frame_however_slow_its_reader(write_clip, name):
    source = open_source(str(write_clip(numbered(30), name)))
    assert isinstance(source, Video) and not source.live and source.fps == pytest.approx(25)
    seen = []
    for frame in source.frames():
        if frame.index % 10 == 0:
            time.sleep(0.05)
        seen.append(frame)
    assert [frame.index for frame in seen] == list(range(30))
    brightness = [frame.frame_bgr.mean() for frame in seen]
    assert np.abs(np.array(brightness) - [8 * k % 248 for k in range(30)]).max() < 6
    assert seen[-1].time_s == pytest.approx(29 / 25, abs=0.05) and seen[0].time_s == 0
    assert seen[0].age_ms is None and not source.problems
    source.close()


def test_a_live_source_keeps_only_the_newest_frame_and_tells_its_age():
    produced = iter(range(1000))

    def read():
        time.sleep(0.005)
        return True, np.full((2, 2, 3), next(produced) % 256, np.uint8)

    source = Live("fake", FakeCapture(read))
    frames = source.frames()
    first = next(frames)
    time.sleep(0.2)
    second = next(frames)
    assert second.index - first.index > 10
    assert 0 <= second.age_ms < 100
    source.close()
    assert source.capture.released


def test_a_camera_that_stops_is_an_error():
    left = iter(range(3))
    source = Live("camera 7", FakeCapture(
        lambda: (next(left, None) is not None, np.zeros((2, 2, 3), np.uint8))))
    with pytest.raises(SourceError, match="camera 7 stopped delivering after"):
        list(source.frames())


def test_a_camera_that_opens_but_never_delivers_is_an_error():
    source = Live("camera 7", FakeCapture(lambda: (False, None)))
    with pytest.raises(SourceError, match="camera 7 delivers no frame"):
        list(source.frames())


def test_a_camera_that_hangs_is_an_error_and_does_not_hang_the_end(monkeypatch):
    monkeypatch.setattr(sources, "STALL_S", 0.1)
    hanging = threading.Event()
    source = Live("camera 7", FakeCapture(lambda: (hanging.wait(20), None)))
    with pytest.raises(SourceError, match="no frame for"):
        next(source.frames())
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 3 and not source.capture.released
    hanging.set()


def test_a_camera_that_is_not_there_is_an_error():
    with pytest.raises(SourceError, match="camera 97 is not there"):
        open_camera(97)


def test_stopping_ends_the_iteration_at_once():
    def read():
        time.sleep(0.01)
        return True, np.zeros((2, 2, 3), np.uint8)

    source = Live("fake", FakeCapture(read))
    frames = source.frames()
    next(frames)
    source.stop()
    assert next(frames, None) is None
    source.close()


def test_a_folders_broken_pictures_are_named_and_the_rest_is_done(tmp_path, astronaut):
    for name in ("a.png", "c/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), astronaut)
    (tmp_path / "b.png").write_bytes(b"broken")
    source = open_source(str(tmp_path))
    assert isinstance(source, Pictures) and source.expected == 3
    assert [frame.source for frame in source.frames()] == [
        str(tmp_path / "a.png"), str(tmp_path / "c/d.png")]
    assert len(source.problems) == 1 and "b.png" in source.problems[0]


def test_sources_that_cannot_be_read_say_why(tmp_path, write_clip):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("hello")
    whole = write_clip(numbered(60, 240, 320)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index stands at the end
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("missing.mp4", "does not exist"), ("empty.mp4", "is empty"),
        ("text.mp4", "neither a picture nor a video"), ("cut.mp4", "may be truncated"),
        ("empty", "holds no pictures"),
    ):
        with pytest.raises(SourceError, match=said):
            open_source(str(tmp_path / name))


def test_a_truncated_video_that_opens_is_reported_at_its_end(write_clip, tmp_path):
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(60)]
    whole = write_clip(noisy, "clip.avi").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 2])
    source = open_source(str(cut))
    delivered = len(list(source.frames()))
    assert 0 < delivered < 60
    assert "of 60 frames" in source.problems[0] and "truncated" in source.problems[0]


@pytest.fixture
def mjpeg_server(astronaut):
    """A network camera: an endless stream of JPEG pictures over HTTP."""
    picture = cv2.imencode(".jpg", cv2.resize(astronaut, (320, 240)))[1].tobytes()
    part = b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)

    class Stream(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
            self.end_headers()
            try:
                for _ in range(500):
                    self.wfile.write(part + picture + b"\r\n")
                    time.sleep(0.02)
            except OSError:
                pass

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stream) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/stream"
        running.shutdown()


def test_a_network_camera_is_a_live_source(mjpeg_server):
    source = open_source(mjpeg_server)
    assert source.live
    frames = source.frames()
    assert next(frames).frame_bgr.shape == (240, 320, 3)
    assert next(frames).age_ms < 1000
    source.close()


def test_a_pipeline_without_gstreamer_says_which_cv2_has_it(monkeypatch):
    built = "  Video I/O:\n    GStreamer:                   NO\n"
    monkeypatch.setattr(sources.cv2, "getBuildInformation", lambda: built)
    with pytest.raises(SourceError, match=r"no GStreamer .*JetPack's cv2"):
        open_source("gst:videotestsrc ! appsink")


def test_a_pipeline_is_handed_to_gstreamer(monkeypatch):
    """pip's cv2 has none: here only what is asked of it can be seen."""
    asked = []

    class Refusing:
        def isOpened(self):
            return False

    monkeypatch.setattr(sources.cv2, "getBuildInformation", lambda: "GStreamer: YES (1.20.3)")
    monkeypatch.setattr(sources.cv2, "VideoCapture", lambda *a: asked.append(a) or Refusing())
    with pytest.raises(SourceError, match="does not start"):
        open_source("gst:videotestsrc ! appsink")
    assert asked == [("videotestsrc ! appsink", cv2.CAP_GSTREAMER)]


def test_an_address_where_nothing_answers_is_an_error():
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source("http://127.0.0.1:9/stream")
