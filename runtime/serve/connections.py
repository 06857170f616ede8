"""Limits on the connections of the live page: their number, their idle time, their log lines."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

MOST_CONNECTIONS = 256
IDLE_S = 10.0  # without a complete request
CHECK_S = 1.0
LOG_S = 10.0  # between two log lines
HEADERS = {
    "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
log = logging.getLogger(__name__)


class RareLog(logging.Filter):
    """Passes one record per `LOG_S`, without its traceback: viewers must not fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self.next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        record.exc_info = record.exc_text = None
        if time.monotonic() < self.next_s:
            return False
        self.next_s = time.monotonic() + LOG_S
        return True


log.addFilter(RareLog())


class Refusal(asyncio.Protocol):
    """Closes a connection as soon as it is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class PageProtocol(web.RequestHandler):
    """A connection that is counted, and closed when it sends no complete request for `IDLE_S`."""

    __slots__ = ("connections", "is_busy", "since_s")

    def __init__(self, connections: Connections, server: Any) -> None:
        no_log: Any = None
        super().__init__(server, loop=asyncio.get_running_loop(), logger=log, access_log=no_log)
        self.connections, self.is_busy, self.since_s = connections, False, time.monotonic()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting it."""
        self.connections.opened.discard(self)
        super().connection_lost(exc)

    def handle_error(self, *args: Any, **named: Any) -> web.StreamResponse:
        """Answer what is no HTTP request, with the headers of every answer."""
        response = super().handle_error(*args, **named)
        response.headers.update(HEADERS)
        return response


class Connections:
    """Accepts the connections of a server, and closes those that are idle or too many.

    A connection is busy while a handler answers its request.
    """

    def __init__(self, server: Any) -> None:
        self.server, self.most = server, most_connections()
        self.opened: set[PageProtocol] = set()

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        if len(self.opened) >= self.most:
            log.warning("the live page has %d connections: new ones are refused", self.most)
            return Refusal()
        protocol = PageProtocol(self, self.server)
        self.opened.add(protocol)
        return protocol

    async def close_idle(self) -> None:
        """Close idle connections until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            for protocol in list(self.opened):
                is_idle = time.monotonic() - protocol.since_s > IDLE_S
                if is_idle and not protocol.is_busy and protocol.transport is not None:
                    protocol.transport.abort()


@web.middleware
async def track_activity(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Mark the connection of a request as busy while it is answered."""
    protocol: Any = request.protocol
    protocol.is_busy = True
    try:
        return await handler(request)
    finally:
        protocol.is_busy, protocol.since_s = False, time.monotonic()


def most_connections() -> int:
    """Return how many connections are accepted: at most half of the files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft < 0 else max(min(MOST_CONNECTIONS, soft // 2), 8)


def report_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error of the event loop: one line, rate-limited."""
    log.warning("live page: %s: %s", context.get("message"), context.get("exception"))
