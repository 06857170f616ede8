"""The interfaces of outputs: results alone, or results with the annotated frame."""

from __future__ import annotations

from typing import Protocol

from feredge.runtime.results import Array, FrameResult


class Output(Protocol):
    """Receives the result of every frame, in order."""

    def write(self, result: FrameResult) -> None:
        """Write one frame."""

    def close(self) -> None:
        """Finish the file and free everything."""


class AnnotatedOutput(Protocol):
    """Receives the result of every frame together with the annotated frame, in order."""

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Write one frame.

        Args:
            result: the frame and its faces.
            annotated_bgr: `(h, w, 3)` uint8, the frame with its faces drawn; shared by all outputs.
        """

    def close(self) -> None:
        """Finish the file and free everything."""
