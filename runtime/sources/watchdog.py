"""End a run whose sources deliver nothing for too long, even if their readers hang."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.base import Source

CHECK_S = 0.2


@contextmanager
def limit_silence(source: Source, max_silence_s: float) -> Iterator[None]:
    """Stop a source if none of its live parts has delivered a frame for `max_silence_s` seconds.

    Raises:
        SourceError: on leaving, if that happened.
    """
    left, silent = threading.Event(), threading.Event()

    def watch() -> None:
        while not left.wait(CHECK_S):
            silent_s = min(health.silent_s for health in source.health())
            if silent_s > max_silence_s and not source.stopped:
                silent.set()
                source.stop()

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        left.set()
    if silent.is_set():
        names = ", ".join(health.source for health in source.health())
        raise SourceError(f"{names}: no frame for {max_silence_s:g} s (`max_silence_s`)")
