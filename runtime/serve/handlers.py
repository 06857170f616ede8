"""What the live page answers: the page, frames, events, metrics, health."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from feredge.runtime.errors import FeredgeError
from feredge.runtime.outputs.base import escape
from feredge.runtime.palette import LABEL_COLORS
from feredge.runtime.serve.connections import HEADERS, track_activity
from feredge.runtime.serve.metrics import exposition
from feredge.runtime.serve.page_frame import PageFrame

if TYPE_CHECKING:
    from feredge.runtime.serve.live_page import LivePage

PAGE = Path(__file__).with_name("live_page.html")
BOUNDARY = "frame"
EVENTS_S = 0.1  # between two updates of the numbers
FRAME_S = 5.0  # a request for the next frame waits this long
SILENT_S = 10.0  # without a frame: not healthy
PATIENCE_S = 10.0  # with a viewer that does not read
OPEN_PATHS = ("/healthz",)  # contains nothing of what is seen

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(page: LivePage) -> web.Application:
    """Return the web application of a live page."""
    handlers = Handlers(page)
    app = web.Application(middlewares=[track_activity, handlers.check_access])
    app.on_response_prepare.append(add_headers)
    app.add_routes([
        web.get("/", handlers.get_page), web.get("/frame", handlers.get_frame),
        web.get("/stream", handlers.get_stream), web.get("/events", handlers.get_events),
        web.get("/metrics", handlers.get_metrics), web.get("/healthz", handlers.get_health),
        web.get("/history", handlers.get_history),
    ])
    return app


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers that an answer does not set itself."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def page_text(settings: dict[str, Any]) -> str:
    """Return the page with its settings; no text in them can end the script."""
    text = json.dumps(settings).replace("<", "\\u003c").replace("&", "\\u0026")
    return PAGE.read_text(encoding="utf-8").replace("{settings}", text)


def page_policy(page: str) -> str:
    """Return the content security policy of the page: only its own script and style run."""
    def sources(tag: str) -> str:
        digests = (hashlib.sha256(text.encode()).digest()
                   for text in re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL))
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    return (f"default-src 'none'; img-src 'self' data: blob:; connect-src 'self'; "
            f"style-src {sources('style')}; script-src {sources('script')}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


async def send(request: web.Request, response: web.StreamResponse, content: bytes) -> bool:
    """Send a part to a viewer; return False if it is gone, or has not read for too long."""
    try:
        await asyncio.wait_for(response.write(content), PATIENCE_S)
    except ConnectionError:
        return False
    except (TimeoutError, asyncio.TimeoutError):  # two classes until Python 3.11
        if request.transport is not None:
            request.transport.abort()
        return False
    return True


class Handlers:
    """The answers to the requests of viewers; all run in the thread of the page."""

    def __init__(self, page: LivePage) -> None:
        self.page = page
        content = page.content
        self.text = page_text({
            "labels": content.labels, "colors": LABEL_COLORS, "pictures": content.has_pictures,
            "sources": content.sources or ("",), "history": content.last_day is not None})
        self.policy = page_policy(self.text)

    @web.middleware
    async def check_access(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse other host names, and requests without the token.

        The token is in the address, or in `Authorization: Bearer`.
        """
        address = self.page.address
        if not address.admits_host(request.headers.get("Host")):
            raise web.HTTPForbidden(text="this host name is not served here: open "
                                         f"http://127.0.0.1:{address.port}/\n")
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = request.query.get("token", bearer).encode(errors="backslashreplace")
        is_known = not address.token or hmac.compare_digest(token, address.token.encode())
        if not is_known and request.path not in OPEN_PATHS:
            raise web.HTTPUnauthorized(text="the token is missing or wrong: open "
                                            f"{request.path}?token=SECRET\n")
        return await handler(request)

    async def get_page(self, request: web.Request) -> web.Response:
        """Return the page itself."""
        return web.Response(text=self.text, content_type="text/html",
                            headers={"Content-Security-Policy": self.policy})

    def source(self, request: web.Request) -> str:
        """Return the source that a request asks for; without one the first.

        Raises:
            HTTPNotFound: pictures are not served, or there is no such source.
        """
        content = self.page.content
        if not content.has_pictures:
            raise web.HTTPNotFound(text="pictures are not served: this run writes no images\n")
        sources = content.sources or ("",)
        source = request.query.get("source", sources[0])
        if source not in sources:
            raise web.HTTPNotFound(text="there is no such source\n")
        return source

    async def get_frame(self, request: web.Request) -> web.Response:
        """Return the newest frame with its faces, newer than `after`; 204 if none comes soon."""
        source, after = self.source(request), request.query.get("after", "0")
        number = int(after) if after.isascii() and after.isdigit() and len(after) < 16 else 0
        if request.method == "HEAD":
            return web.Response(content_type="application/octet-stream")
        self.page.watch(request)
        with suppress(TimeoutError, asyncio.TimeoutError):
            frame = await asyncio.wait_for(self.page.next_frame(source, number), FRAME_S)
            if frame is not None:
                return web.Response(body=await frame.packet(self.page.content.labels),
                                    content_type="application/octet-stream")
        return web.Response(status=204)

    async def get_stream(self, request: web.Request) -> web.StreamResponse:
        """Send the annotated frames of a source, as many as the viewer can take: MJPEG.

        Browsers show a part when the next boundary arrives, so each is sent with its own behind it.
        """
        source = self.source(request)
        response = web.StreamResponse(
            headers={"Content-Type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"})
        if request.method == "HEAD":
            return web.Response(headers=response.headers)
        await response.prepare(request)
        await response.write(f"--{BOUNDARY}\r\n".encode())
        with self.page.viewer(request):
            frame = await self.page.next_frame(source, 0)
            while frame is not None and await send(request, response, await self.part(frame)):
                frame = await self.page.next_frame(source, frame.number)
        return response

    async def part(self, frame: PageFrame) -> bytes:
        """Return a frame as a part of the MJPEG stream.

        `X-Captured-S` is on the monotonic clock of this machine.
        """
        jpeg = await frame.annotated_jpeg(self.page.content.annotate)
        head = (f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
                f"X-Captured-S: {frame.result.frame.captured_s}\r\n\r\n")
        return head.encode() + jpeg + f"\r\n--{BOUNDARY}\r\n".encode()

    async def get_events(self, request: web.Request) -> web.StreamResponse:
        """Send the numbers, ten times a second at most: server-sent events."""
        headers = {"Content-Type": "text/event-stream"}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        while not self.page.ended.is_set():
            line = f"data: {json.dumps(self.page.state())}\n\n"
            if not await send(request, response, line.encode()):
                break
            await asyncio.sleep(EVENTS_S)
            with suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self.page.arrival.wait(), 1.0)
        return response

    async def get_metrics(self, request: web.Request) -> web.Response:
        """Return the numbers in the text format of Prometheus."""
        content, kind = exposition(self.page.state())
        return web.Response(body=content, headers={"Content-Type": kind})

    async def get_history(self, request: web.Request) -> web.Response:
        """Return the last day by hour as JSON; 503 while its file cannot be read."""
        last_day = self.page.content.last_day
        if last_day is None:
            raise web.HTTPNotFound(text="the run records no history\n")
        try:
            rows = await asyncio.get_running_loop().run_in_executor(None, last_day)
        except FeredgeError as error:
            raise web.HTTPServiceUnavailable(text=f"{escape(str(error))}\n") from error
        return web.json_response(rows)

    async def get_health(self, request: web.Request) -> web.Response:
        """Return 200 while a source delivers, otherwise 503 and the reason."""
        sources = self.page.content.facts()["sources"]
        silent_s = min((source["silent_s"] for source in sources), default=0.0)
        if silent_s > SILENT_S:
            raise web.HTTPServiceUnavailable(text=f"no frame for {silent_s:.0f} s\n")
        return web.Response(text="ok\n")
