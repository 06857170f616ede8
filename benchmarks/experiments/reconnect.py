"""How long a network camera that was gone is on again before its first frame is there.

Usage: `python -m feredge.benchmarks.experiments.reconnect [--restarts 20] [--json FILE]`

A real RTSP server, GStreamer's, is killed and started again. It needs Debian's packages python3-gi,
gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good and gstreamer1.0-plugins-ugly.
"""

from __future__ import annotations

import argparse
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feredge.runtime.environment import quiet_opencv

if TYPE_CHECKING:
    from feredge.runtime.sources import Source

# 640x480 at 25 frames a second, a key frame each second, as cameras send it.
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
PYTHON = "/usr/bin/python3"  # gi is a package of the distribution's
GONE_S = (0.5, 5.0)
OPENINGS = 5


@contextmanager
def camera_on(port: int) -> Iterator[float]:
    """Run the server; gives when it was ready, on `time.monotonic`'s clock."""
    with subprocess.Popen([PYTHON, "-c", SERVER, str(port), CAMERA],
                          stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            if server.stdout.readline() != "on\n":
                raise SystemExit("the server does not start: are its packages installed?")
            yield time.monotonic()
        finally:
            server.kill()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def opened(url: str) -> Source:
    """Open the camera, and wait for it to deliver."""
    from feredge.runtime.sources import frames_of, open_source

    source = open_source(url)
    next(frames_of(source))
    return source


def opening_s(url: str) -> float:
    """Return how long OpenCV takes from nothing to a frame of a camera that is on."""
    from feredge.runtime.sources.url import capture_url

    start_s = time.monotonic()
    capture = capture_url(url, url)
    assert capture.read()[0]
    capture.release()
    return time.monotonic() - start_s


def return_s(source: Source, port: int) -> float:
    """Return how long a camera was on again before its next frame arrived."""
    from feredge.runtime.sources import frames_of

    time.sleep(random.uniform(*GONE_S))  # never in step with the attempts
    before, = source.health()
    with camera_on(port) as ready_s:
        for frame in frames_of(source):
            if source.health()[0].reconnects > before.reconnects and frame.captured_s is not None:
                return frame.captured_s - ready_s
    raise SystemExit("the source ended")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    quiet_opencv()
    from feredge.benchmarks.eval.records import write_results

    port = free_port()
    with camera_on(port):
        source = opened(f"rtsp://127.0.0.1:{port}/camera")
        openings_s = [opening_s(source.name) for _ in range(OPENINGS)]
    seconds = [return_s(source, port) for _ in range(options.restarts)]
    source.close()
    median_s, p95_s = statistics.median(seconds), float(np.percentile(seconds, 95))
    print(f"first frame after {median_s:.2f} s (95th percentile {p95_s:.2f}, "
          f"{len(seconds)} restarts); opening alone takes {statistics.median(openings_s):.2f} s")
    write_results(options.json, {"camera": CAMERA, "median_s": median_s, "p95_s": p95_s,
                                 "seconds": seconds, "opening_s": openings_s})
    return 0


if __name__ == "__main__":
    sys.exit(main())
