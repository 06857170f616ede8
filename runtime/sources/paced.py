"""Recorded sources at their own pace, and again from the start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from feredge.runtime.results import Frame
from feredge.runtime.sources.base import SingleSource, Source

PICTURE_S = 1.0  # how long one of several pictures is shown


class PacedSource(SingleSource):
    """A recorded source that delivers each frame when it is due; none is dropped.

    If frames are not taken in time, the rest is delayed. Indices and times continue when the source
    starts again.

    Args:
        source: not live; closed by `close`.
        open_again: opens it once more at its end, for ever; None: it ends.
    """

    def __init__(self, source: Source, open_again: Callable[[], Source] | None = None) -> None:
        super().__init__(source.name, source.fps)
        self.source, self.open_again = source, open_again
        self.is_ordered = source.is_ordered
        self.expected_frames = 0 if open_again else source.expected_frames
        self.changed = threading.Condition()  # its lock is re-entrant
        self.started_s = 0.0

    def batches(self) -> Iterator[list[Frame]]:
        """Yield the frames of the source, each when it is due.

        Raises:
            SourceError: nothing can be read.
        """
        self.started_s = time.monotonic()
        index, time_s = 0, 0.0
        while not self.stopped:
            first_index, first_s = index, time_s
            for (frame,) in self.source.batches():
                shown_s = frame.time_s if self.is_ordered else PICTURE_S * frame.index
                if not self.wait_until(first_s + shown_s):
                    return
                index, time_s = first_index + frame.index + 1, first_s + shown_s + self.step_s()
                yield [replace(frame, index=index - 1,
                               time_s=first_s + frame.time_s if self.is_ordered else 0.0)]
            if not self.problems:
                self.problems += self.source.problems
            if self.open_again is None or index == first_index:
                return
            self.start_again(self.open_again)

    def step_s(self) -> float:
        """Return how long the last frame is shown."""
        return 1 / self.fps if self.is_ordered else PICTURE_S

    def wait_until(self, due_s: float) -> bool:
        """Wait until a time after the start; return False once stopped."""
        with self.changed:
            late_s = time.monotonic() - self.started_s - due_s
            self.started_s += max(late_s, 0.0)
            return not self.changed.wait_for(lambda: self.stopped, timeout=-min(late_s, 0.0))

    def start_again(self, open_again: Callable[[], Source]) -> None:
        """Replace the source by a new one."""
        self.source.close()
        self.source = open_again()

    def stop(self) -> None:
        """End after the current frame; a signal handler may call it."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        self.source.stop()

    def close(self) -> None:
        """Close the source."""
        self.source.close()
