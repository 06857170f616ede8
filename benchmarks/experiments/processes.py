"""Processes under measurement: their start-up time, memory, threads and ports."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STARTS = 7
SMALL_PARENT = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int, timeout_s: float = 60) -> None:
    """Wait until a port accepts connections.

    Raises:
        OSError: it does not before the time-out.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


def process_state(pid: int | str = "self") -> dict[str, float]:
    """Return a process's resident megabytes, threads and open files, from Linux's /proc."""
    folder = Path(f"/proc/{pid}")
    lines = (line.partition(":") for line in (folder / "status").read_text().splitlines())
    facts = {name: value.split() for name, _, value in lines}
    return {"resident_mb": int(facts["VmRSS"][0]) * 1.024e-3, "threads": int(facts["Threads"][0]),
            "files": len(list((folder / "fd").iterdir()))}


def peak_mb(command: Sequence[str | Path]) -> float:
    """Return the peak of resident memory of a process that must succeed, in megabytes."""
    code, megabytes = run_with_peak(command)
    if code:
        raise SystemExit(f"{command[0]} failed with exit code {code}")
    return megabytes


def run_with_peak(
    command: Sequence[str | Path], timeout_s: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, float]:
    """Run a process; returns its exit code and its peak of resident memory in megabytes.

    Linux counts the memory of the process that forks as well, so that a small process starts it.
    """
    done = subprocess.run([sys.executable, "-S", "-c", SMALL_PARENT, *command], text=True,
                          stdout=subprocess.PIPE, timeout=timeout_s, env=environment, check=True)
    code, kilobytes = map(int, done.stdout.split())
    return code, kilobytes * 1.024e-3


def startup_s(command: Sequence[str | Path]) -> float:
    """Return the median seconds of seven runs of a process, after one untimed run."""
    seconds = []
    for _ in range(STARTS + 1):
        start_s = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start_s)
    return statistics.median(seconds[1:])
