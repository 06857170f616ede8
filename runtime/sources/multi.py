"""Several sources at once: each round has a frame of every source that has one ready."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from feredge.runtime.environment import configure_ffmpeg
from feredge.runtime.errors import SourceError, UsageError
from feredge.runtime.results import Frame
from feredge.runtime.sources.captures import Pictures, Source, Video, open_source, without_passwords
from feredge.runtime.sources.live import WATCH_S, LiveSource, beside

logger = logging.getLogger(__name__)


class MultiSource:
    """Videos, streams and cameras side by side; none waits for another.

    A live source keeps only its newest frame; a video has one ready and loses none. A source that
    ends or fails leaves the others alone.

    Args:
        sources: open, of different names.
    """

    is_pictures = False
    live = True
    expected = 0

    def __init__(self, sources: Sequence[Video | LiveSource]) -> None:
        self.sources = list(sources)
        self.changed = threading.Condition()  # its lock is re-entrant
        self.stopped = False
        self.feeds = [SourceReader(self, source) for source in self.sources]

    @property
    def problems(self) -> list[str]:
        """What went wrong in sources that ended."""
        return [problem for feed in self.feeds for problem in feed.problems()]

    def rounds(self) -> Iterator[list[Frame]]:
        """Yield the frames that are there, one a source at most, until all sources ended.

        Raises:
            SourceError: all of them failed.
        """
        for feed in self.feeds:
            feed.start()
        while frames := self.next_round():
            yield frames
        errors = [feed.error for feed in self.feeds if feed.error is not None]
        for error in errors:
            if not isinstance(error, SourceError):
                raise error
        if len(errors) == len(self.feeds) and not self.stopped:
            for feed in self.feeds:
                feed.error = None  # told by what is raised
            raise SourceError("; ".join(map(str, errors)))

    def next_round(self) -> list[Frame]:
        """Wait until a source has a frame, and take one of each that has; none at the end."""
        with self.changed:
            while not self.changed.wait_for(self.has_news, timeout=WATCH_S):
                pass  # a signal's handler may have called `stop` between the look and the wait
            if self.stopped:
                return []
            frames = [feed.ready for feed in self.feeds if feed.ready is not None]
            for feed in self.feeds:
                feed.ready = None
            self.changed.notify_all()
            return frames

    def has_news(self) -> bool:
        """Tell whether there is a frame, or will be none."""
        return (self.stopped or any(feed.ready is not None for feed in self.feeds)
                or all(feed.ended for feed in self.feeds))

    def stop(self) -> None:
        """End after the round that is being worked on; a signal handler may call it."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        for source in self.sources:
            source.stop()

    def close(self) -> None:
        """Stop, and close every source, side by side: one that hangs takes its time."""
        self.stop()
        with ThreadPoolExecutor(len(self.feeds)) as threads:
            list(threads.map(SourceReader.close, self.feeds))


class SourceReader(threading.Thread):
    """Takes one source's frames, and has the next, or the newest, ready for a round."""

    def __init__(self, several: MultiSource, source: Video | LiveSource) -> None:
        super().__init__(name=f"feed {source.name}", daemon=True)
        self.several, self.source = several, source
        self.ready: Frame | None = None
        self.error: Exception | None = None
        self.ended = False

    def run(self) -> None:
        """Put one frame after the other where the rounds find it."""
        try:
            for frame in self.source.frames():
                self.put(frame)
        except Exception as error:  # what is no SourceError ends the run, as it does one alone
            self.error = error
            if not all(feed.ended for feed in self.several.feeds if feed is not self):
                logger.warning("%s; going on without it", error, extra={
                    "event": "given up", "source": self.source.name, "reason": str(error)})
        finally:
            with self.several.changed:
                self.ended = True
                self.several.changed.notify_all()

    def put(self, frame: Frame) -> None:
        """Leave a frame; a video's waits until the one before it was taken."""
        several = self.several
        with several.changed:
            if not self.source.live:
                several.changed.wait_for(lambda: self.ready is None or several.stopped)
            self.ready = frame
            several.changed.notify_all()

    def close(self) -> None:
        """Close the source, unless this thread hangs in it: it must not be freed meanwhile."""
        if self.ident is not None:
            self.join(timeout=0.5)
        if not self.is_alive():
            self.source.close()

    def problems(self) -> list[str]:
        """Return what went wrong."""
        return [*self.source.problems, *([str(self.error)] if self.error else [])]


def live_sources(source: Source | MultiSource) -> list[LiveSource]:
    """Return the live ones among a run's sources."""
    sources = source.sources if isinstance(source, MultiSource) else [source]
    return [one for one in sources if isinstance(one, LiveSource)]


def open_several(wheres: Sequence[str | int], retry_s: float | None = None) -> MultiSource:
    """Open videos, streams and cameras, side by side.

    Args:
        wheres: see `open_source`.
        retry_s: see `LiveSource`.

    Raises:
        UsageError: one is given twice, or is pictures.
        SourceError: one cannot be opened.
    """
    check_names([without_passwords(str(where)) for where in wheres])
    configure_ffmpeg()  # before there are threads that read the environment
    opening = [beside(partial(open_source, where, retry_s)) for where in wheres]
    failed = [error for future in opening if (error := future.exception()) is not None]
    opened = [future.result() for future in opening if future.exception() is None]
    sources = [source for source in opened if not isinstance(source, Pictures)]
    try:
        if failed:
            raise failed[0]
        if len(sources) < len(wheres):
            raise UsageError("several sources are videos, streams or cameras: put pictures into "
                             "one folder")
        check_names([source.name for source in sources])
    except BaseException:
        for source in sources:
            source.close()
        raise
    return MultiSource(sources)


def check_names(names: Sequence[str]) -> None:
    """Check that all names differ: by them the sources are kept apart.

    Raises:
        UsageError: two are the same.
    """
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(f"source {twice[0]} is given twice")
