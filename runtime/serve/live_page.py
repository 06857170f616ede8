"""The live page: the results in a browser on this machine or, with a token, on another one.

The pipeline only stores its newest result here. A thread of the page encodes a frame, once and only
if a viewer asks for it, and sends it to all viewers; a slow viewer misses frames.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from feredge.runtime.errors import OutputError
from feredge.runtime.results import FrameResult
from feredge.runtime.serve.address import Address
from feredge.runtime.serve.connections import Connections, report_loop_error
from feredge.runtime.serve.handlers import application
from feredge.runtime.serve.page_frame import Annotate, PageFrame

VIEWER_S = 6.0  # a browser that has asked for a frame is a viewer for so long

Facts = Callable[[], Mapping[str, Any]]
LastDay = Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes:
        labels: the class names, in the order of the probabilities.
        facts: returns totals, stages and sources as they are now; any thread calls it.
        annotate: draws the faces of a result onto a copy of its frame, for MJPEG viewers.
        has_pictures: False: numbers only.
        sources: the names of several sources, which have a picture each; empty for a single one.
        last_day: returns the rows of the last day by hour; any thread calls it. None: no history.
    """

    labels: tuple[str, ...]
    facts: Facts
    annotate: Annotate = lambda result: result.frame.frame_bgr
    has_pictures: bool = True
    sources: tuple[str, ...] = ()
    last_day: LastDay | None = None


class LivePage:
    """An output for browsers.

    Args:
        address: where to serve; the port that was taken stands in the attribute `address`.
        content: what to show.

    Raises:
        OutputError: nothing can be served at the address.
    """

    def __init__(self, address: Address, content: PageContent) -> None:
        self.address, self.content = address, content
        self.frames: dict[str, PageFrame] = {}  # by source; a single source is called ""
        self.count, self.streams = 0, 0
        self.viewers_s: dict[str, float] = {}  # by peer: when it asked for a frame
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(report_loop_error)
        self.arrival, self.ended = asyncio.Event(), asyncio.Event()
        self.failures: list[Exception] = []
        started = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(started,), name="live page",
                                       daemon=True)
        self.thread.start()
        started.wait()
        for failure in self.failures:
            reason = getattr(failure, "strerror", None) or failure
            raise OutputError(f"`serve` {address.host!a}:{address.port}: {reason}")

    def write(self, result: FrameResult) -> None:
        """Store one result for the viewers."""
        with suppress(RuntimeError):  # the page is closed
            self.loop.call_soon_threadsafe(self.store, result)

    def store(self, result: FrameResult) -> None:
        """Wake all viewers that wait for the next result."""
        self.count += 1
        source = result.frame.source if self.content.sources else ""
        self.frames[source] = PageFrame(result, self.count)
        self.arrival.set()
        self.arrival = asyncio.Event()

    def close(self) -> None:
        """End the streams of the viewers, and the thread."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.ended.set)
            self.thread.join()

    def run(self, started: threading.Event) -> None:
        """Serve until `close`; the body of the thread."""
        try:
            self.loop.run_until_complete(self.serve(started))
        except (OSError, ValueError, OverflowError) as error:  # also names that are no host's
            self.failures.append(error)
        finally:
            started.set()
            self.loop.close()

    async def serve(self, started: threading.Event) -> None:
        """Listen until `close`."""
        runner = web.AppRunner(application(self), access_log=None, shutdown_timeout=0.2,
                               handler_cancellation=True)
        await runner.setup()
        connections = Connections(runner.server)
        try:
            server = await self.loop.create_server(connections.accept, sock=self.listen())
            idle = asyncio.ensure_future(connections.close_idle())
            started.set()
            await self.ended.wait()
            idle.cancel()
            server.close()
        finally:
            await runner.cleanup()

    def listen(self) -> socket.socket:
        """Return a listening socket, and note its port."""
        found = socket.getaddrinfo(self.address.host, self.address.port, type=socket.SOCK_STREAM)
        family, _, _, _, where = found[0]
        listener = socket.create_server(where[:2], family=family, backlog=128)
        self.address = replace(self.address, port=listener.getsockname()[1])
        return listener

    async def next_frame(self, source: str, number: int) -> PageFrame | None:
        """Wait for a frame with a larger number; return None at the end of the page."""
        while not self.ended.is_set():
            frame = self.frames.get(source)
            if frame is not None and frame.number > number:
                return frame
            arrival = asyncio.ensure_future(self.arrival.wait())
            ended = asyncio.ensure_future(self.ended.wait())
            try:
                await asyncio.wait((arrival, ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                arrival.cancel()
                ended.cancel()
        return None

    def watch(self, request: web.Request) -> None:
        """Count a browser that asks for single frames as a viewer for a while."""
        self.viewers_s[request.remote or ""] = time.monotonic()

    @contextmanager
    def viewer(self, request: web.Request) -> Iterator[None]:
        """Count a viewer of an MJPEG stream while the block runs."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    @property
    def viewers(self) -> int:
        """The number of viewers of pictures."""
        since_s = time.monotonic() - VIEWER_S
        self.viewers_s = {peer: at_s for peer, at_s in self.viewers_s.items() if at_s > since_s}
        return self.streams + len(self.viewers_s)

    def state(self) -> dict[str, Any]:
        """Return the numbers of the page: faces as in the JSON lines, stages, sources."""
        frames = list(self.frames.values())
        ages_ms = {frame.result.frame.source: frame.result.frame.age_ms for frame in frames}
        facts = self.content.facts()
        sources = [{**source, "age_ms": ages_ms.get(source["source"])}
                   for source in facts["sources"]]
        faces = [{"source": frame.result.frame.source, **face}
                 for frame in frames if frame.is_fresh for face in frame.faces(self.content.labels)]
        return {"time_s": time.monotonic(), "viewers": self.viewers, **facts, "sources": sources,
                "faces": faces}
