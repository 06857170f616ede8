"""Time from the return of a network camera to its first frame.

Usage: `python -m feredge.benchmarks.experiments.reconnect [--restarts 20] [--json FILE]`

GStreamer's RTSP server is killed and started again. It needs Debian's packages python3-gi,
gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good and gstreamer1.0-plugins-ugly.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.benchmarks.experiments.processes import free_port
from feredge.runtime.sources import Source, frames_of, open_source

# 640x480 at 25 frames per second with a key frame per second, as cameras send it.
CAMERA = ("videotestsrc is-live=1 ! video/x-raw,width=640,height=480,framerate=25/1 ! x264enc "
          "tune=zerolatency speed-preset=ultrafast key-int-max=25 bitrate=1000 ! "
          "rtph264pay name=pay0 pt=96 config-interval=1")
SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
camera = GstRtspServer.RTSPMediaFactory(shared=True)
camera.set_launch("( " + sys.argv[2] + " )")
server.get_mount_points().add_factory("/camera", camera)
server.attach(None)
print("on", flush=True)
GLib.MainLoop().run()
"""
PYTHON = "/usr/bin/python3"  # gi is a package of the distribution
GONE_S = (0.5, 5.0)
OPENINGS = 5


@contextmanager
def run_camera(port: int) -> Iterator[float]:
    """Run the server; yields the time at which it was ready, on `time.monotonic`'s clock."""
    with subprocess.Popen([PYTHON, "-c", SERVER, str(port), CAMERA],
                          stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            if server.stdout.readline() != "on\n":
                raise SystemExit("the server does not start: are its packages installed?")
            yield time.monotonic()
        finally:
            server.kill()


def open_camera(url: str) -> Source:
    """Open the camera, and wait for its first frame."""
    source = open_source(url)
    next(frames_of(source))
    return source


def opening_s(url: str) -> float:
    """Return the seconds from opening a running camera with OpenCV to its first frame."""
    from feredge.runtime.sources.url import capture_url

    start_s = time.monotonic()
    capture = capture_url(url, url)
    assert capture.read()[0]
    capture.release()
    return time.monotonic() - start_s


def return_s(source: Source, port: int) -> float:
    """Return the seconds from a camera's restart to its next frame."""
    time.sleep(random.uniform(*GONE_S))  # not in phase with the attempts to reconnect
    before, = source.health()
    with run_camera(port) as ready_s:
        for frame in frames_of(source):
            if source.health()[0].reconnects > before.reconnects and frame.captured_s is not None:
                return frame.captured_s - ready_s
    raise SystemExit("the source ended")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--restarts", type=int, default=20)


def measure(options: argparse.Namespace) -> Results:
    """Restart the camera again and again."""
    port = free_port()
    with run_camera(port):
        source = open_camera(f"rtsp://127.0.0.1:{port}/camera")
        openings_s = [opening_s(source.name) for _ in range(OPENINGS)]
    seconds = [return_s(source, port) for _ in range(options.restarts)]
    source.close()
    return {"camera": CAMERA, "median_s": statistics.median(seconds),
            "p95_s": float(np.percentile(seconds, 95)), "seconds": seconds,
            "opening_s": openings_s}


def describe(results: Results) -> str:
    """Return the results as text."""
    return (f"first frame after {results['median_s']:.2f} s (95th percentile "
            f"{results['p95_s']:.2f}, {len(results['seconds'])} restarts); opening alone takes "
            f"{statistics.median(results['opening_s']):.2f} s")


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
