"""How old a frame is when a browser has it, and whether fer-run stays as it is when left running.

Usage: `python -m feredge.benchmarks.experiments.page --engine ENGINE --soak-engine SMALL
--detector PATH
[--frames 100000] [--json FILE]`

A network camera, `fer-run --serve` and a viewer are a process each. The age counts from a frame's
arrival in fer-run, after it is decoded, to the last byte of its picture at the viewer. The soak is
the small engine, with a camera that goes away ten times: memory, threads and open files.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from feredge.benchmarks.eval.records import write_results
from feredge.benchmarks.experiments.cameras import camera_on
from feredge.runtime.detect.weights import detector_path

RATE, SECONDS, SETTLING = 25, 20, 50
CAMERAS, ROWS, POLL_S = 10, 20, 0.2


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def fer_run(port: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run fer-run with a live page; it must end well."""
    command = [sys.executable, "-m", "feredge.runtime.fer_run", *arguments, "--serve", f":{port}",
               "--allow-random-weights"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            wait_for(port)
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()


def wait_for(port: int, most_s: float = 60) -> None:
    """Wait until the page is there."""
    deadline_s = time.monotonic() + most_s
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


def opened(port: int, path: str) -> http.client.HTTPResponse:
    """Open a path of the live page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    return connection.getresponse()


def parts(stream: http.client.HTTPResponse) -> Iterator[float]:
    """Read an MJPEG stream; yields when each frame was captured, once it is here whole."""
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
    """Return the age of every frame at the viewer, at 25 frames a second of 640x480."""
    port = free_port()
    with camera_on(free_port(), RATE) as camera, fer_run(
        port, "--engine", str(engine), "--detector", detector, "--source", camera
    ):
        found = []
        for captured_s in parts(opened(port, "/stream")):
            found.append((time.monotonic() - captured_s) * 1e3)
            if len(found) == SETTLING + RATE * SECONDS:
                return found[SETTLING:]
    raise SystemExit("the stream ended")


def state_of(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return a process's resident megabytes, threads and open files, as Linux counts them."""
    folder = Path(f"/proc/{process.pid}")
    lines = (line.partition(":") for line in (folder / "status").read_text().splitlines())
    facts = {name: value.split() for name, _, value in lines}
    return {"resident_mb": int(facts["VmRSS"][0]) * 1.024e-3, "threads": int(facts["Threads"][0]),
            "files": len(list((folder / "fd").iterdir()))}


def frames_done(port: int) -> int:
    """Return how many frames were worked on, from the page's metrics."""
    with opened(port, "/metrics") as response:
        lines = response.read().decode().splitlines()
    return next(int(float(line.split()[1])) for line in lines
                if line.startswith("feredge_frames_total "))


def viewed(port: int) -> None:
    """Look at the page as a browser does, until it ends."""
    with suppress(OSError):
        for _ in parts(opened(port, "/stream")):
            pass


def soak(engine: Path, detector: str, frames: int) -> list[dict[str, float]]:
    """Return the process's state at every twentieth of a long run whose camera comes and goes."""
    port, camera_port = free_port(), free_port()
    rows: list[dict[str, float]] = []
    done, camera = 0, f"http://127.0.0.1:{camera_port}/stream"
    with fer_run(port, "--engine", str(engine), "--detector", detector, "--detector-size", "160",
                 "--source", camera, "--retry", "inf", "--jsonl", "/dev/null") as process:
        threading.Thread(target=viewed, args=(port,), daemon=True).start()
        while done < frames:
            last = min(done + frames // CAMERAS, frames)
            with camera_on(camera_port, width=160):
                while done < last:
                    time.sleep(POLL_S)
                    done = frames_done(port)
                    if done >= (len(rows) + 1) * frames // ROWS:
                        rows.append({"frames": done, **state_of(process)})
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", required=True, type=Path)
    parser.add_argument("--soak-engine", required=True, type=Path)
    parser.add_argument("--detector", help="a YuNet-format ONNX file (default: as fer-run's)")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    detector = str(detector_path(options.detector))
    ages = ages_ms(options.engine, detector)
    median_ms, p95_ms = np.percentile(ages, [50, 95])
    print(f"age of a frame at a viewer, {RATE} frames/s: {median_ms:.0f} ms, 95th percentile "
          f"{p95_ms:.0f} ms, of {len(ages)}")
    start_s = time.monotonic()
    rows = soak(options.soak_engine, detector, options.frames)
    seconds = time.monotonic() - start_s
    for row in rows:
        print(f"{row['frames']:.0f} frames: {row['resident_mb']:.1f} MB, {row['threads']:.0f} "
              f"threads, {row['files']:.0f} open files")
    write_results(options.json, {
        "engine": options.engine.name, "frames_per_s": RATE, "ages_ms": ages,
        "age_median_ms": float(median_ms), "age_p95_ms": float(p95_ms),
        "soak_engine": options.soak_engine.name, "soak_seconds": seconds, "soak": rows,
    })
    return 0


if __name__ == "__main__":
    sys.exit(main())
