"""A run ends when its sources are silent for too long, whatever their readers hang in."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.live import LiveSource

CHECK_S = 0.2


@contextmanager
def ended_by_silence(sources: Sequence[LiveSource], most_s: float) -> Iterator[None]:
    """Stop sources of which none has delivered anything for `most_s` seconds.

    Raises:
        SourceError: on leaving, if that happened.
    """
    left, silent = threading.Event(), threading.Event()

    def watch() -> None:
        while not left.wait(CHECK_S):
            silent_s = min(source.health().silent_s for source in sources)
            if silent_s > most_s and not all(source.stopped for source in sources):
                silent.set()
                for source in sources:
                    source.stop()

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        left.set()
    if silent.is_set():
        names = ", ".join(source.name for source in sources)
        raise SourceError(f"{names}: no frame for {most_s:g} s (--max-silence)")
