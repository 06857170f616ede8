"""A network camera for measurements: JPEG pictures over HTTP, at a frame rate or at full speed.

Usage: `python -m feredge.benchmarks.experiments.cameras PORT FRAMES_PER_S WIDTH`; 0 frames/s is
no limit.

It runs in a process of its own, so that it does not share the interpreter of the measured process.
"""

from __future__ import annotations

import http.server
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import cv2
import numpy as np

from feredge.export.portrait import portrait_face

PICTURES = 25


def portrait_jpegs(width: int) -> list[bytes]:
    """Return a second of 4:3 pictures as JPEG: the portrait of matplotlib, moving sideways."""
    portrait = portrait_face()
    assert portrait is not None, "matplotlib is not installed"
    height = width * 3 // 4
    face = cv2.resize(portrait[0], (width * 5 // 8, height), interpolation=cv2.INTER_AREA)
    encoded = []
    for k in range(PICTURES):
        left = round((width - face.shape[1]) * (0.5 + 0.3 * np.sin(2 * np.pi * k / PICTURES)))
        frame = np.full((height, width, 3), 128, np.uint8)
        frame[:, left : left + face.shape[1]] = face
        encoded.append(cv2.imencode(".jpg", frame)[1].tobytes())
    return encoded


def serve(port: int, frames_per_s: float, width: int) -> None:
    """Serve the pictures until the process ends."""
    pictures = portrait_jpegs(width)

    class Stream(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
            self.end_headers()
            start_s, sent = time.monotonic(), 0
            with suppress(OSError):  # the viewer disconnected
                while True:
                    jpeg = pictures[sent % len(pictures)]
                    self.wfile.write(b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: "
                                     b"%d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n")
                    sent += 1
                    if frames_per_s:
                        time.sleep(max(start_s + sent / frames_per_s - time.monotonic(), 0))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Stream)
    server.daemon_threads = True
    print("on", flush=True)
    server.serve_forever()


@contextmanager
def run_camera(port: int, frames_per_s: float = 0, width: int = 640) -> Iterator[str]:
    """Run a camera; yields its address."""
    command = [sys.executable, "-m", __name__, str(port), str(frames_per_s), str(width)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "on\n"
            yield f"http://127.0.0.1:{port}/stream"
        finally:
            process.kill()


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
