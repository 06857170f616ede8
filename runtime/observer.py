"""The observer of a run: it receives the events that commands and benchmarks need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feredge.runtime.pipeline import Pipeline
    from feredge.runtime.results import FrameResult
    from feredge.runtime.sources.base import Source
    from feredge.runtime.timing import Summary


class Observer:
    """Receives the events of a run; override the methods of interest."""

    def on_source(self, source: Source) -> None:
        """Receive the source once it is open; the engine and the detector are not yet."""

    def on_start(self, pipeline: Pipeline) -> None:
        """Receive the pipeline before its first frame."""

    def on_page(self, address: str) -> None:
        """Receive the address of the live page, for people."""

    def on_frame(self, result: FrameResult) -> None:
        """Receive the result of a frame after it was written; `times_s` has all stages."""

    def on_end(self, summary: Summary) -> None:
        """Receive the totals after the last frame, also when an error ended the run."""
