"""Processes under measurement: their start-up time, memory, threads and ports."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STARTS = 7
SMALL_PARENT = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
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


@dataclass(frozen=True)
class Usage:
    """What a process used: its exit code, its peak of resident memory, and its CPU time."""

    exit_code: int
    peak_mb: float
    cpu_s: float


def usage_of(command: Sequence[str | Path]) -> Usage:
    """Return the usage of a process that must succeed."""
    usage = run_process(command)
    if usage.exit_code:
        raise SystemExit(f"{command[0]} failed with exit code {usage.exit_code}")
    return usage


def run_process(
    command: Sequence[str | Path], timeout_s: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> Usage:
    """Run a process, without its output.

    Linux counts the memory of the process that forks as well, so that a small process starts it.
    """
    done = subprocess.run([sys.executable, "-S", "-c", SMALL_PARENT, *command], text=True,
                          stdout=subprocess.PIPE, timeout=timeout_s, env=environment, check=True)
    code, kilobytes, cpu_s = done.stdout.split()
    return Usage(int(code), int(kilobytes) * 1.024e-3, float(cpu_s))


def startup_s(command: Sequence[str | Path]) -> float:
    """Return the median seconds of seven runs of a process, after one untimed run."""
    seconds = []
    for _ in range(STARTS + 1):
        start_s = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start_s)
    return statistics.median(seconds[1:])
