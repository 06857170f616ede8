import shlex
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from feredge.runtime.errors import SourceError, UsageError
from feredge.runtime.sources import (
    SourceOptions,
    camera,
    capture,
    frames_of,
    gstreamer,
    open_source,
)


def numbered(count, height=64, width=64):
    """Frames that differ in brightness."""
    return [np.full((height, width, 3), 8 * k % 248, np.uint8) for k in range(count)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_a_video_file_loses_no_frame_however_slow_its_reader(write_clip, name):
    source = open_source(str(write_clip(numbered(30), name)))
    assert source.is_ordered and not source.is_live and source.fps == pytest.approx(25)
    seen = []
    for frame in frames_of(source):
        if frame.index % 10 == 0:
            time.sleep(0.05)
        seen.append(frame)
    assert [frame.index for frame in seen] == list(range(30))
    brightness = [frame.frame_bgr.mean() for frame in seen]
    assert np.abs(np.array(brightness) - [8 * k % 248 for k in range(30)]).max() < 6
    assert seen[-1].time_s == pytest.approx(29 / 25, abs=0.05) and seen[0].time_s == 0
    assert seen[0].age_ms is None and not source.problems
    source.close()


def test_a_camera_that_is_not_there_is_an_error():
    with pytest.raises(SourceError, match="camera 97 is not there"):
        open_source(97)


def test_a_folders_broken_pictures_are_named_and_the_rest_is_done(tmp_path, astronaut):
    for name in ("a.png", "c/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), astronaut)
    (tmp_path / "b.png").write_bytes(b"broken")
    source = open_source(str(tmp_path))
    assert not source.is_ordered and source.expected_frames == 3
    assert [frame.source for frame in frames_of(source)] == [
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
        ("empty", "contains no pictures"),
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
    delivered = len(list(frames_of(source)))
    assert 0 < delivered < 60
    assert "of 60 frames" in source.problems[0] and "truncated" in source.problems[0]


def test_a_pipeline_without_gstreamer_says_which_cv2_has_it(monkeypatch):
    built = "  Video I/O:\n    GStreamer:                   NO\n"
    monkeypatch.setattr(gstreamer.cv2, "getBuildInformation", lambda: built)
    with pytest.raises(SourceError, match=r"no GStreamer .*JetPack's cv2"):
        open_source("gst:videotestsrc ! appsink")


@pytest.fixture
def asked(monkeypatch):
    """What a cv2 with GStreamer, which pip's has not, is asked to open."""
    pipelines = []

    class Refusing:
        def isOpened(self):
            return False

    monkeypatch.setattr(gstreamer.cv2, "getBuildInformation", lambda: "GStreamer: YES (1.20.3)")
    monkeypatch.setattr(gstreamer.cv2, "VideoCapture", lambda *a: pipelines.append(a) or Refusing())
    return pipelines


def test_a_pipeline_is_handed_to_gstreamer(asked):
    with pytest.raises(SourceError, match="does not start"):
        open_source("gst:videotestsrc ! appsink")
    assert asked == [("videotestsrc ! appsink", cv2.CAP_GSTREAMER)]


def test_a_csi_camera_is_the_pipeline_of_its_sensor(asked):
    with pytest.raises(SourceError, match="csi:1 does not start; try it with: gst-launch"):
        open_source("csi:1")
    (pipeline, backend), = asked
    assert pipeline.startswith("nvarguscamerasrc sensor-id=1 ! ") and "appsink" in pipeline
    assert backend == cv2.CAP_GSTREAMER
    with pytest.raises(SourceError, match="expected csi: and the sensor's number"):
        open_source("csi:front")


@pytest.mark.parametrize("where, begins", [
    ("jetson:rtsp://admin:hush@cam/1", 'rtspsrc location="rtsp://admin:hush@cam/1" protocols=tcp'),
    ("jetson:2", "v4l2src device=/dev/video2 io-mode=2 ! image/jpeg ! nvv4l2decoder mjpeg=1 !"),
    ("jetson:/dev/v4l/by-id/usb-A_B-video-index0",
     "v4l2src device=/dev/v4l/by-id/usb-A_B-video-index0 io-mode=2 !"),
])
def test_a_jetsons_decoder_reads_network_and_usb_cameras(asked, where, begins):
    with pytest.raises(SourceError, match="does not start") as error:
        open_source(where)
    (pipeline, _), = asked
    assert pipeline.startswith(begins) and "nvv4l2decoder" in pipeline
    assert pipeline.endswith("format=BGR ! appsink drop=1 max-buffers=1 sync=false")
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("where", ["jetson:front", "jetson:http://cam", "jetson:/etc/passwd ! x",
                                   "jetson:"])
def test_a_jetsons_source_of_another_kind_is_refused(asked, where):
    with pytest.raises(SourceError, match="expected jetson: and a camera's number"):
        open_source(where)
    assert asked == []


class FakeCamera:
    """A camera of a backend; `opens` lists the backends that have it."""

    opens, asked = (), []

    def __init__(self, camera, backend=cv2.CAP_ANY):
        self.backend = backend
        self.asked.append((camera, backend))

    def isOpened(self):
        return self.backend in self.opens

    def set(self, prop, value):
        self.asked.append((prop, value))

    def get(self, prop):
        return 0.0

    def read(self):
        time.sleep(0.01)
        return True, np.zeros((2, 2, 3), np.uint8)

    def release(self):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="Video4Linux")
@pytest.mark.parametrize("backend", [cv2.CAP_V4L2, cv2.CAP_ANY])
def test_a_camera_is_opened_by_video4linux_with_mjpg_before_other_backends(monkeypatch, backend):
    monkeypatch.setattr(FakeCamera, "opens", (backend,))
    monkeypatch.setattr(FakeCamera, "asked", [])
    monkeypatch.setattr(camera.cv2, "VideoCapture", FakeCamera)
    source = open_source(3)
    mjpg = (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    buffer = (cv2.CAP_PROP_BUFFERSIZE, 1)
    assert FakeCamera.asked == [(3, cv2.CAP_V4L2)] + (
        [mjpg, buffer] if backend == cv2.CAP_V4L2 else [(3, cv2.CAP_ANY), buffer])
    assert next(frames_of(source)).source == "camera 3"
    source.close()


def test_a_pipeline_that_hangs_when_it_is_opened_is_an_error_with_what_to_try(asked, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(capture, "OPENING_S", 0.1)
    monkeypatch.setattr(gstreamer.cv2, "VideoCapture", lambda *_: released.wait(60))
    with pytest.raises(SourceError, match="csi:0 does not open within 0 s; try it with: ") as error:
        open_source("csi:0")
    released.set()
    _, command = str(error.value).split("try it with: ")
    words = shlex.split(command)  # in a shell, brackets need quotes
    assert words[:3] == ["gst-launch-1.0", "nvarguscamerasrc", "sensor-id=0"]
    assert "video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1" in words


@pytest.mark.parametrize("secret", [
    "location=rtsp://admin:hush@cam/live", "location=rtsp://cam/live user-pw=hush",
    "location=rtsp://cam/live user-id=admin user-pw = 'hush hush'",
    "uri=srt://cam:1?passphrase=hush", 'uri=srt://cam:1 passphrase="hush"',
])
def test_a_pipelines_password_is_in_no_error(asked, secret):
    with pytest.raises(SourceError, match="does not start") as error:
        open_source(f"gst:somesrc {secret} ! appsink")
    assert "hush" not in str(error.value) and "//cam" in str(error.value)
    assert asked[0][0] == f"somesrc {secret} ! appsink"


def test_an_address_where_nothing_answers_is_an_error():
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source("http://127.0.0.1:9/stream")


@pytest.mark.parametrize("wrong", [{"retry_s": -1.0}, {"retry_s": float("nan")}, {"max_pixels": 0}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} is"):
        SourceOptions(**wrong)


def test_the_example_of_an_own_source_runs_in_a_pipeline():
    page = (Path(capture.__file__).parent / "README.md").read_text()
    names = {"np": np}
    exec(page.split("```python\n")[1].split("```")[0], names)
    source = names["Noise"]("noise")
    assert source.parts == (source,) and source.health() == []
    frames = list(frames_of(source))
    assert len(frames) == 10 and frames[-1].time_s == pytest.approx(9 / 25)
