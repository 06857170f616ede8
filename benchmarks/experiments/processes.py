"""Processes under measurement: their start-up time, memory, threads and ports."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

STARTS = 7


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
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    code, megabytes = wait_with_peak(process)
    if code:
        raise SystemExit(f"{command[0]} failed with exit code {code}")
    return megabytes


def wait_with_peak(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Wait for a process; returns its exit code and its peak of resident memory in megabytes."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait again
    return process.returncode, usage.ru_maxrss * 1.024e-3


def startup_s(command: Sequence[str | Path]) -> float:
    """Return the median seconds of seven runs of a process, after one untimed run."""
    seconds = []
    for _ in range(STARTS + 1):
        start_s = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start_s)
    return statistics.median(seconds[1:])
