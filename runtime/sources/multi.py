"""Several sources, concurrently: a batch has a frame of each source that has one ready."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from feredge.runtime.closeable import Closeable
from feredge.runtime.errors import SourceError, UsageError
from feredge.runtime.results import Frame
from feredge.runtime.sources.base import DEFAULT_FPS, Health, Source, frames_of
from feredge.runtime.sources.names import mask_passwords

WATCH_S = 0.1

logger = logging.getLogger(__name__)


class MultiSource(Closeable):
    """Videos, streams and cameras, concurrently; none waits for another.

    A live source keeps only its newest frame; a video has one ready and loses none. A source that
    ends or fails does not affect the others.

    Args:
        sources: open, with different names.

    Raises:
        UsageError: two have the same name, or one is pictures.
    """

    name = "several sources"
    fps = DEFAULT_FPS
    is_ordered = True
    expected_frames = 0

    def __init__(self, sources: Sequence[Source]) -> None:
        if not all(source.is_ordered for source in sources):
            raise UsageError("several sources must be videos, streams or cameras: put pictures "
                             "into one folder")
        check_names([source.name for source in sources])
        self.parts = tuple(sources)
        self.is_live = any(source.is_live for source in sources)
        self.changed = threading.Condition()  # its lock is re-entrant
        self.stopped = False
        self.readers = [SourceReader(self.changed, source) for source in sources]

    @property
    def problems(self) -> list[str]:
        """Errors of the sources that ended."""
        return [problem for reader in self.readers for problem in reader.problems()]

    def batches(self) -> Iterator[list[Frame]]:
        """Yield the frames that are ready, at most one per source, until all sources ended.

        Raises:
            SourceError: all of them failed.
        """
        for reader in self.readers:
            reader.start()
        while frames := self.next_batch():
            yield frames
        errors = [reader.error for reader in self.readers if reader.error is not None]
        for error in errors:
            if not isinstance(error, SourceError):
                raise error
        if len(errors) == len(self.readers) and not self.stopped:
            for reader in self.readers:
                reader.error = None  # the exception reports it
            raise SourceError("; ".join(map(str, errors)))

    def next_batch(self) -> list[Frame]:
        """Wait until a source has a frame, and take one of each that has; none at the end."""
        with self.changed:
            while not self.changed.wait_for(self.has_news, timeout=WATCH_S):
                self.warn_of_failures()  # and see a `stop` of a signal handler
            self.warn_of_failures()
            if self.stopped:
                return []
            frames = [reader.ready for reader in self.readers if reader.ready is not None]
            for reader in self.readers:
                reader.ready = None
            self.changed.notify_all()
            return frames

    def has_news(self) -> bool:
        """Return whether there is a frame, or will never be one."""
        return (self.stopped or any(reader.ready is not None for reader in self.readers)
                or all(reader.ended for reader in self.readers))

    def warn_of_failures(self) -> None:
        """Log sources that failed while others go on, each once."""
        if all(reader.ended for reader in self.readers):
            return
        for reader in self.readers:
            if reader.error is not None and not reader.is_reported:
                reader.is_reported = True
                logger.warning("%s; continuing without it", reader.error, extra={
                    "event": "given up", "source": reader.source.name,
                    "reason": str(reader.error)})

    def health(self) -> list[Health]:
        """Return the state of each live source."""
        return [health for source in self.parts for health in source.health()]

    def stop(self) -> None:
        """End after the current batch; a signal handler may call it."""
        with self.changed:
            self.stopped = True
            for reader in self.readers:
                reader.stopped = True
            self.changed.notify_all()
        for source in self.parts:
            source.stop()

    def close(self) -> None:
        """Stop, and close all sources concurrently: one that hangs delays no other."""
        self.stop()
        with ThreadPoolExecutor(len(self.readers)) as threads:
            list(threads.map(SourceReader.close, self.readers))


class SourceReader(threading.Thread):
    """Reads one source, and keeps its next or newest frame ready for a batch.

    Args:
        changed: notified at each frame and at the end; guards `ready`.
        source: what to read.
    """

    def __init__(self, changed: threading.Condition, source: Source) -> None:
        super().__init__(name=f"read {source.name}", daemon=True)
        self.changed, self.source = changed, source
        self.ready: Frame | None = None
        self.error: Exception | None = None
        self.ended = self.stopped = self.is_reported = False

    def run(self) -> None:
        """Store one frame after the other."""
        try:
            for frame in frames_of(self.source):
                self.put(frame)
        except Exception as error:  # other errors than SourceError end the run, as of one source
            self.error = error
        finally:
            with self.changed:
                self.ended = True
                self.changed.notify_all()

    def put(self, frame: Frame) -> None:
        """Store a frame. A video waits until the previous one is taken; a live one replaces it."""
        with self.changed:
            if not self.source.is_live:
                self.changed.wait_for(lambda: self.ready is None or self.stopped)
            self.ready = replace(frame, source=self.source.name)
            self.changed.notify_all()

    def close(self) -> None:
        """Close the source, unless this thread hangs in it: it must not be freed meanwhile."""
        if self.ident is not None:
            self.join(timeout=0.5)
        if not self.is_alive():
            self.source.close()

    def problems(self) -> list[str]:
        """Return the errors of the source."""
        return [*self.source.problems, *([str(self.error)] if self.error else [])]


def check_names(names: Sequence[str]) -> None:
    """Check that all names differ: results are assigned to sources by name.

    Raises:
        UsageError: two are the same.
    """
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(f"source {mask_passwords(twice[0])} is given twice")
