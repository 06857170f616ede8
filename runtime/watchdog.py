"""A run ends when its source is silent for too long, whatever its reader hangs in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from feredge.runtime.errors import SourceError
from feredge.runtime.live import Live

CHECK_S = 0.2


@contextmanager
def ended_by_silence(source: Live, most_s: float) -> Iterator[None]:
    """Stop a source that has delivered nothing for `most_s` seconds.

    Raises:
        SourceError: on leaving, if that happened.
    """
    left, silent = threading.Event(), threading.Event()

    def watch() -> None:
        while not left.wait(CHECK_S):
            if source.health().silent_s > most_s and not source.stopped:
                silent.set()
                source.stop()

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        left.set()
    if silent.is_set():
        raise SourceError(f"{source.name}: no frame for {most_s:g} s (--max-silence)")
