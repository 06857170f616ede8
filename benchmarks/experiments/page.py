"""Age of a frame when a browser has received it, and the state of fer-run over a long run.

Usage: `python -m feredge.benchmarks.experiments.page --engine ENGINE --soak-engine SMALL
[--detector PATH] [--frames 100000] [--json FILE]`

A network camera, `fer-run --serve` and a viewer run in a process each. The age is from a frame's
arrival in fer-run, after decoding, to the last byte of its picture at the viewer. The long run uses
the small engine and a camera that disconnects ten times; memory, threads and open files are read.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from feredge.benchmarks.experiments.cameras import run_camera
from feredge.benchmarks.experiments.command import Experiment, Results, add_engine_arguments
from feredge.benchmarks.experiments.processes import free_port, process_state, wait_for_port
from feredge.runtime.detect.weights import detector_path

RATE, SECONDS, SETTLING = 25, 20, 50
CAMERAS, ROWS, POLL_S = 10, 20, 0.2


@contextmanager
def run_fer_run(port: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run fer-run with a live page; its exit code must be 0."""
    command = [sys.executable, "-m", "feredge.runtime.fer_run", *arguments, "--serve", f":{port}",
               "--allow-random-weights"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            wait_for_port(port)
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()


def open_page(port: int, path: str) -> http.client.HTTPResponse:
    """Open a path of the live page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    return connection.getresponse()


def capture_times_s(stream: http.client.HTTPResponse) -> Iterator[float]:
    """Read an MJPEG stream; yields each frame's capture time when its last byte has arrived."""
    while True:
        headers: dict[bytes, bytes] = {}
        while (line := stream.readline()).strip() or b"content-length" not in headers:
            name, _, value = line.lower().partition(b":")
            headers[name] = value.strip()
            if not line:
                return
        stream.read(int(headers[b"content-length"]))
        yield float(headers[b"x-captured-s"])


def ages_ms(engine: Path, detector: str) -> list[float]:
    """Return the age of every frame at the viewer, at 25 frames per second of 640x480."""
    port = free_port()
    with run_camera(free_port(), RATE) as camera, run_fer_run(
        port, "--engine", str(engine), "--detector", detector, "--source", camera
    ):
        ages = []
        for captured_s in capture_times_s(open_page(port, "/stream")):
            ages.append((time.monotonic() - captured_s) * 1e3)
            if len(ages) == SETTLING + RATE * SECONDS:
                return ages[SETTLING:]
    raise SystemExit("the stream ended")


def frames_total(port: int) -> int:
    """Return the number of frames so far, from the page's metrics."""
    with open_page(port, "/metrics") as response:
        lines = response.read().decode().splitlines()
    return next(int(float(line.split()[1])) for line in lines
                if line.startswith("feredge_frames_total "))


def view(port: int) -> None:
    """Read the page's stream as a browser does, until it ends."""
    with suppress(OSError):
        for _ in capture_times_s(open_page(port, "/stream")):
            pass


def soak(engine: Path, detector: str, frames: int) -> list[dict[str, float]]:
    """Return the process's state at every twentieth of a long run with ten camera restarts."""
    port, camera_port = free_port(), free_port()
    rows: list[dict[str, float]] = []
    done, camera = 0, f"http://127.0.0.1:{camera_port}/stream"
    arguments = ("--engine", str(engine), "--detector", detector, "--detector-size", "160",
                 "--source", camera, "--retry", "inf", "--jsonl", "/dev/null")
    with run_fer_run(port, *arguments) as process:
        threading.Thread(target=view, args=(port,), daemon=True).start()
        while done < frames:
            last = min(done + frames // CAMERAS, frames)
            with run_camera(camera_port, width=160):
                while done < last:
                    time.sleep(POLL_S)
                    done = frames_total(port)
                    if done >= (len(rows) + 1) * frames // ROWS:
                        rows.append({"frames": done, **process_state(process.pid)})
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_engine_arguments(parser)
    parser.add_argument("--soak-engine", required=True, type=Path)
    parser.add_argument("--frames", type=int, default=100_000)


def measure(options: argparse.Namespace) -> Results:
    """Measure the ages, then do the long run."""
    detector = str(detector_path(options.detector))
    ages = ages_ms(options.engine, detector)
    median_ms, p95_ms = np.percentile(ages, [50, 95])
    start_s = time.monotonic()
    rows = soak(options.soak_engine, detector, options.frames)
    return {
        "engine": options.engine.name, "frames_per_s": RATE, "ages_ms": ages,
        "age_median_ms": float(median_ms), "age_p95_ms": float(p95_ms),
        "soak_engine": options.soak_engine.name, "soak_seconds": time.monotonic() - start_s,
        "soak": rows,
    }


def describe(results: Results) -> str:
    """Return the results as text."""
    lines = [f"age of a frame at a viewer, {RATE} frames/s: {results['age_median_ms']:.0f} ms, "
             f"95th percentile {results['age_p95_ms']:.0f} ms, of {len(results['ages_ms'])}"]
    lines += [f"{row['frames']:.0f} frames: {row['resident_mb']:.1f} MB, {row['threads']:.0f} "
              f"threads, {row['files']:.0f} open files" for row in results["soak"]]
    return "\n".join(lines)


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
