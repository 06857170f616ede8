"""The live page: what the pipeline sees, in a browser here or, with a token, on another machine.

The pipeline only leaves its newest answer here. A thread of its own encodes a picture, once and
only where somebody waits for it, and hands it to as many viewers as there are; who reads slowly
misses frames.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
from aiohttp import web

from feredge.runtime.errors import OutputError
from feredge.runtime.outputs.base import face_record
from feredge.runtime.palette import LABEL_COLORS
from feredge.runtime.pipeline import Pipeline
from feredge.runtime.results import Array, FrameResult
from feredge.runtime.serve.metrics import exposition
from feredge.runtime.sources.base import Source

PAGE = Path(__file__).with_name("live_page.html")
BOUNDARY = "frame"
JPEG_QUALITY = 80
EVENTS_S = 0.1  # between two updates of the numbers
SILENT_S = 10.0  # without a frame: not healthy
PATIENCE_S = 10.0  # with a viewer that reads nothing
IN_VIEW_S = 2.0  # who was seen in a frame that is older may have left
OPEN_PATHS = ("/healthz",)  # says nothing of what is seen
HEADERS = {
    "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
                               "style-src 'unsafe-inline'; script-src 'unsafe-inline'",
}

Facts = Callable[[], Mapping[str, Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Address:
    """Where the page is served, and the token that another machine must know."""

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None

    def __post_init__(self) -> None:
        """Check that only this machine can look without a token.

        Raises:
            OutputError: another one could.
        """
        if not self.token and not self.is_loopback:
            raise OutputError(f"--serve {self.host}:{self.port} can be reached from other "
                              "machines: pass --token SECRET, or serve this one alone: "
                              f"--serve 127.0.0.1:{self.port}")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # some other name
            return False

    def __str__(self) -> str:
        """Return what to open in a browser, without the token, and who may read along."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = "?token=SECRET" if self.token else ""
        warning = "" if self.is_loopback else (
            "; the link is not encrypted: whoever is on the network can read it, the token too")
        return f"http://{host}:{self.port}/{query}{warning}"

    @staticmethod
    def parsed(text: str, token: str | None) -> Address:
        """Read `HOST:PORT`, `HOST`, `:PORT` or nothing.

        Raises:
            OutputError: the port is no number, or another machine could look without a token.
        """
        host, colon, port = text.rpartition(":")
        if not colon or text.endswith("]"):
            host, port = text, ""
        if port and not (port.isdigit() and int(port) < 65536):
            raise OutputError(f"--serve {text}: expected HOST:PORT, as 127.0.0.1:8080")
        default = Address()
        return Address(host.strip("[]") or default.host, int(port or default.port), token)


def facts_of(pipeline: Pipeline) -> Facts:
    """Return what tells a page the pipeline's totals and stages, and its live sources' health."""

    def facts() -> dict[str, Any]:
        totals = pipeline.summary().to_dict()
        health = [asdict(health) for health in pipeline.source.health()]
        return {"stages": totals.pop("stages"), "totals": totals, "sources": health}

    return facts


def names_of(source: Source) -> tuple[str, ...]:
    """Return the names of the sources that have a picture each; one source needs none."""
    return tuple(one.name for one in source.parts) if len(source.parts) > 1 else ()


class Shown:
    """One result, and its annotated frame once a viewer has asked for it."""

    def __init__(self, answer: FrameResult | None, annotated_bgr: Array | None = None) -> None:
        self.answer, self.annotated_bgr, self.shown_s = answer, annotated_bgr, time.monotonic()
        self.encoding: asyncio.Future[bytes] | None = None

    def is_fresh(self) -> bool:
        """Tell whether who is in the frame may be there still; a video's counts from its answer."""
        frame = None if self.answer is None else self.answer.frame
        since_s = self.shown_s if frame is None or frame.captured_s is None else frame.captured_s
        return time.monotonic() - since_s < IN_VIEW_S

    async def jpeg(self) -> bytes:
        """Return the drawn frame, encoded once for all viewers."""
        assert self.annotated_bgr is not None
        if self.encoding is None:
            loop = asyncio.get_running_loop()
            self.encoding = loop.run_in_executor(None, encoded, self.annotated_bgr)
        return await asyncio.shield(self.encoding)  # a viewer that leaves does not cancel it


def encoded(picture_bgr: Array) -> bytes:
    """Return a picture as JPEG."""
    _, content = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return content.tobytes()


async def sent(request: web.Request, response: web.StreamResponse, content: bytes) -> bool:
    """Send a part to a viewer; False if it is gone, or has read nothing for too long."""
    try:
        await asyncio.wait_for(response.write(content), PATIENCE_S)
    except ConnectionError:
        return False
    except (TimeoutError, asyncio.TimeoutError):  # two until Python 3.11
        if request.transport is not None:
            request.transport.abort()
        return False
    return True


class LivePage:
    """An output that browsers look at.

    Args:
        address: where.
        labels: the classes in order.
        facts: returns totals, stages and sources as they are now, called from any thread.
        pictures: False serves numbers alone.
        sources: the names of several sources; each has its picture.

    Raises:
        OutputError: the address is taken, or is not this machine's.
    """

    def __init__(
        self, address: Address, labels: tuple[str, ...], facts: Facts, pictures: bool = True,
        sources: tuple[str, ...] = (),
    ) -> None:
        self.address, self.labels, self.facts, self.pictures = address, labels, facts, pictures
        self.sources = sources
        settings = {"labels": labels, "colours": LABEL_COLORS, "pictures": pictures,
                    "sources": sources or ("",)}
        self.page = PAGE.read_text(encoding="utf-8").replace(
            "{settings}", json.dumps(settings).replace("</", "<\\/"))
        self.nothing = Shown(None)
        self.shown: dict[str, Shown] = {}  # of each source; of one it is called ""
        self.viewers = 0  # of the picture
        self.loop = asyncio.new_event_loop()
        self.arrival = asyncio.Event()
        self.ended = asyncio.Event()
        self.failure: OSError | None = None
        started = threading.Event()
        self.thread = threading.Thread(target=self.serve, args=(started,), name="live page",
                                       daemon=True)
        self.thread.start()
        started.wait()
        if self.failure is not None:
            raise OutputError(f"--serve {address.host}:{address.port}: {self.failure.strerror}")

    def write(self, result: FrameResult) -> None:
        """Store one result for the viewers, without a picture."""
        self.loop.call_soon_threadsafe(self.show, Shown(result))

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Store one result and its annotated frame for the viewers."""
        self.loop.call_soon_threadsafe(self.show, Shown(result, annotated_bgr))

    def show(self, shown: Shown) -> None:
        """Wake all who wait for the next answer."""
        assert shown.answer is not None
        self.shown[shown.answer.frame.source if self.sources else ""] = shown
        self.arrival.set()
        self.arrival = asyncio.Event()

    def close(self) -> None:
        """End the viewers' streams and the thread."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.ended.set)
            self.thread.join()

    def serve(self, started: threading.Event) -> None:
        """Serve until `close`; the thread's own work."""
        try:
            self.loop.run_until_complete(self.served(started))
        except OSError as error:
            self.failure = error
        finally:
            started.set()
            self.loop.close()

    async def served(self, started: threading.Event) -> None:
        """Listen, and clean up in the end."""
        application = web.Application(middlewares=[self.admitted])
        application.add_routes([
            web.get("/", self.get_page), web.get("/stream", self.get_stream),
            web.get("/events", self.get_events), web.get("/metrics", self.get_metrics),
            web.get("/healthz", self.get_health),
        ])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2,
                               handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.address.host, self.address.port).start()
            started.set()
            await self.ended.wait()
        finally:
            await runner.cleanup()

    @web.middleware
    async def admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in who knows the token, in the address or as `Authorization: Bearer`."""
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        given, token = request.query.get("token", bearer), self.address.token
        known = token is None or hmac.compare_digest(given.encode(), token.encode())
        if not known and request.path not in OPEN_PATHS:
            raise web.HTTPUnauthorized(text="the token is missing or wrong: open "
                                            f"{request.path}?token=SECRET\n")
        return await handler(request)

    async def get_page(self, request: web.Request) -> web.Response:
        """Return the page itself."""
        return web.Response(text=self.page, content_type="text/html", headers=HEADERS)

    async def get_stream(self, request: web.Request) -> web.StreamResponse:
        """Send a source's annotated frames, as many as the viewer can take: MJPEG.

        Browsers show a part when the next boundary arrives, so each is sent with its own behind it.
        """
        if not self.pictures:
            raise web.HTTPNotFound(text="pictures are not served (--no-images)\n")
        source = request.query.get("source", self.sources[0] if self.sources else "")
        if source not in (self.sources or ("",)):
            raise web.HTTPNotFound(text="there is no such source\n")
        response = web.StreamResponse(headers={
            **HEADERS, "Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"})
        await response.prepare(request)
        await response.write(f"--{BOUNDARY}\r\n".encode())
        self.viewers += 1
        try:
            await self.send_frames(request, response, source)
        finally:
            self.viewers -= 1
        return response

    async def send_frames(
        self, request: web.Request, response: web.StreamResponse, source: str
    ) -> None:
        """Send the newest frame, again and again, until the viewer or the page is gone."""
        shown = self.shown.get(source, self.nothing)
        while not self.ended.is_set():
            if shown.answer is not None:
                jpeg = await shown.jpeg()
                captured_s = shown.answer.frame.captured_s  # on this machine's monotonic clock
                head = (f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
                        f"X-Captured-S: {captured_s}\r\n\r\n")
                part = head.encode() + jpeg + f"\r\n--{BOUNDARY}\r\n".encode()
                if not await sent(request, response, part):
                    return
            while self.shown.get(source, self.nothing) is shown and not self.ended.is_set():
                await self.arrival.wait()
            shown = self.shown.get(source, self.nothing)

    async def get_events(self, request: web.Request) -> web.StreamResponse:
        """Send the numbers, ten times a second at most: server-sent events."""
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        while not self.ended.is_set():
            line = f"data: {json.dumps(self.state())}\n\n"
            if not await sent(request, response, line.encode()):
                break
            await asyncio.sleep(EVENTS_S)
            with suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self.arrival.wait(), 1.0)
        return response

    def state(self) -> dict[str, Any]:
        """Return what the page draws: faces as in the JSON lines, stages, sources."""
        answers = [shown.answer for shown in self.shown.values() if shown.answer is not None]
        in_view = [shown.answer for shown in self.shown.values() if shown.is_fresh()]
        ages_ms = {answer.frame.source: answer.frame.age_ms for answer in answers}
        facts = self.facts()
        sources = [{**source, "age_ms": ages_ms.get(source["source"])}
                   for source in facts["sources"]]
        return {"time_s": time.monotonic(), "viewers": self.viewers, **facts, "sources": sources,
                "faces": [face_record(answer.faces, k, self.labels)
                          for answer in in_view if answer is not None
                          for k in range(len(answer.faces))]}

    async def get_metrics(self, request: web.Request) -> web.Response:
        """Return the numbers as Prometheus reads them."""
        content, kind = exposition(self.state())
        return web.Response(body=content, headers={**HEADERS, "Content-Type": kind})

    async def get_health(self, request: web.Request) -> web.Response:
        """Return 200 while a source delivers, else 503 and why not."""
        silent_s = min((source["silent_s"] for source in self.facts()["sources"]), default=0.0)
        if silent_s > SILENT_S:
            raise web.HTTPServiceUnavailable(text=f"no frame for {silent_s:.0f} s\n")
        return web.Response(text="ok\n", headers=HEADERS)
