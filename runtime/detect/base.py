"""The detector interface."""

from __future__ import annotations

from abc import abstractmethod

from feredge.runtime.closeable import Closeable
from feredge.runtime.results import Array, Faces


class Detector(Closeable):
    """Whatever finds faces in a frame; use it as a context manager."""

    @abstractmethod
    def detect(self, frame_bgr: Array) -> Faces:
        """Find the faces of a frame.

        Args:
            frame_bgr: `(h, w, 3)` uint8.

        Returns:
            Faces in the frame's own pixels, best first.
        """
