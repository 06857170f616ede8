"""The live page of a pipeline: what it shows, and where."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feredge.runtime.errors import require
from feredge.runtime.logs import logger
from feredge.runtime.serve.token import read_token

if TYPE_CHECKING:
    from feredge.runtime.pipeline import Pipeline
    from feredge.runtime.serve.live_page import LivePage
    from feredge.runtime.sources.base import Source

POLL_S = 0.1


def open_page(
    serve: str, token: str | None, pipeline: Pipeline, has_pictures: bool = True,
    history: Path | None = None,
) -> LivePage:
    """Serve the results of a pipeline.

    Args:
        serve: `HOST:PORT`, `HOST`, `PORT`, or empty for 127.0.0.1:8080.
        token: what other machines must pass, or `@FILE` that contains it.
        pipeline: what to show; the page is not added to its outputs.
        has_pictures: False: numbers only.
        history: the history file whose last day is shown; None: none.

    Raises:
        OutputError: nothing can be served at the address.
        UsageError: the token cannot be read.
        PackageError: the extra `serve` is not installed.
    """
    require("aiohttp", "serve")
    require("prometheus_client", "serve")
    from feredge.runtime.history.last_day import LastDay
    from feredge.runtime.serve.address import Address
    from feredge.runtime.serve.live_page import LivePage, PageContent

    secret = None if token is None else read_token(token)
    parts, annotator = pipeline.source.parts, pipeline.annotator
    page = LivePage(Address.parse(serve, secret), PageContent(
        pipeline.engine.spec.labels, lambda: page_facts(pipeline),
        lambda result: annotator.draw(result.frame.frame_bgr, result.faces),
        has_pictures, tuple(part.name for part in parts) if len(parts) > 1 else (),
        None if history is None else LastDay(history)))
    return page


def keep_open(source: Source) -> None:
    """Keep the page open after a recorded source has ended, until the source is stopped."""
    if source.is_live or source.stopped:
        return
    logger.info("the source has ended; the live page stays open until Ctrl-C or SIGTERM")
    while not source.stopped:
        time.sleep(POLL_S)


def page_facts(pipeline: Pipeline) -> dict[str, Any]:
    """Return the totals and stages of a pipeline, and the health of its live sources."""
    totals = pipeline.summary().to_dict()
    health = [asdict(health) for health in pipeline.source.health()]
    return {"stages": totals.pop("stages"), "totals": totals, "sources": health}
