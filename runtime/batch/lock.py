"""One driver per output: a file lock where the system has one, else a lease that is renewed."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from feredge.runtime.batch.storage import WORK, OutputFolder
from feredge.runtime.errors import OutputError

LEASE = "_plan/lease.json"
RENEW_S, EXPIRE_S, SETTLE_S = 10.0, 60.0, 2.0


def lock_output(output: OutputFolder) -> AbstractContextManager[None]:
    """Keep other drivers from an output for the length of a block.

    Raises:
        OutputError: another driver works on it.
    """
    return lock_local(output) if output.place.is_local else lease_remote(output)


@contextmanager
def lock_local(output: OutputFolder) -> Iterator[None]:
    """Lock a file; the system frees it when the process ends, however it ends."""
    import fcntl

    with open(Path(output.path(WORK)) / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise OutputError(refusal(output, file.read())) from error
        file.truncate(0)
        file.write(owner())
        file.flush()
        yield


@contextmanager
def lease_remote(output: OutputFolder) -> Iterator[None]:
    """Write a lease and renew it: object stores have no locks.

    Two drivers that start within two seconds of each other see whose lease was written last.
    """
    token, stop = secrets.token_hex(8), threading.Event()
    found = json.loads(output.read(LEASE) or b"{}")
    if time.time() - found.get("time_s", 0) < EXPIRE_S:
        raise OutputError(refusal(output, found["owner"]))
    write_lease(output, token)
    time.sleep(SETTLE_S)
    found = json.loads(output.read(LEASE) or b"{}")
    if found.get("token") != token:
        raise OutputError(refusal(output, found.get("owner", "")))
    thread = threading.Thread(target=renew, args=(output, token, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        output.delete(LEASE)


def renew(output: OutputFolder, token: str, stop: threading.Event) -> None:
    """Renew a lease until the run ends; a request that fails is repeated."""
    while not stop.wait(RENEW_S):
        try:
            write_lease(output, token)
        except OutputError:
            continue


def write_lease(output: OutputFolder, token: str) -> None:
    """Write a lease with the current time."""
    lease = {"token": token, "owner": owner(), "time_s": time.time()}
    output.write(LEASE, json.dumps(lease).encode())


def owner() -> str:
    """Return this process's name for an error message of another."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def refusal(output: OutputFolder, other: str) -> str:
    """Return the error of a second driver."""
    return (f"{output.name} is in use by another fer-batch ({other.strip() or 'unknown'}): wait "
            "for it or use another --output")
