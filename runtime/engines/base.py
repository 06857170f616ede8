"""Engines: one interface, one file a backend, chosen by the file's suffix."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from feredge.runtime.closeable import Closeable
from feredge.runtime.results import Array
from feredge.runtime.spec import ModelSpec


class Engine(Closeable):
    """A network that is ready to run; use it as a context manager.

    `spec` says what it expects and answers, `max_batch` how many faces it takes at once.
    """

    spec: ModelSpec
    max_batch: int

    def classify(self, frame_bgr: Array, boxes_xyxy: Array) -> Array:
        """Cut the faces out of a frame and classify them.

        Args:
            frame_bgr: `(h, w, 3)` uint8.
            boxes_xyxy: `(n, 4)`, pixel edges; may reach outside the frame.

        Returns:
            `(n, classes)` float32 probabilities.

        Raises:
            ValueError: the frame is not `(h, w, 3)` uint8; a BoxError for a box without a crop.
        """
        return self.classify_frames([frame_bgr], [boxes_xyxy], [""])[0]

    def classify_frames(
        self, frames_bgr: Sequence[Array], boxes_xyxy: Sequence[Array], sources: Sequence[str]
    ) -> list[Array]:
        """Classify the faces of several frames, all in one batch.

        Args:
            frames_bgr: `(h, w, 3)` uint8 each; their sizes may differ.
            boxes_xyxy: for each frame `(n, 4)`, pixel edges.
            sources: where each frame is from; matters to an engine that remembers faces.

        Returns:
            For each frame `(n, classes)` float32 probabilities.

        Raises:
            ValueError: as `classify`.
        """
        for frame_bgr in frames_bgr:
            check_frame(frame_bgr)
        if not len(frames_bgr):
            return []
        of_each = [np.reshape(boxes, (-1, 4)) for boxes in boxes_xyxy]
        counts, boxes = [len(rows) for rows in of_each], np.concatenate(of_each)
        of_frame = np.repeat(np.arange(len(counts)), counts)

        def run(rows: slice) -> Array:
            return self._classify([(frames_bgr[k], boxes[rows][of_frame[rows] == k])
                                   for k in np.unique(of_frame[rows])])

        return np.split(self.batched(run, boxes), np.cumsum(counts)[:-1])

    def infer(self, crops: Array) -> Array:
        """Classify faces that went through the crop already.

        Args:
            crops: `(n, 3, side, side)` float32, normalised as the spec says.

        Returns:
            `(n, classes)` float32 probabilities.

        Raises:
            ValueError: another shape or dtype.
        """
        expected = (3, self.spec.input.side, self.spec.input.side)
        if crops.shape[1:] != expected or crops.dtype != np.float32:
            found = f"{crops.shape} {crops.dtype}"
            raise ValueError(f"crops are (n, {', '.join(map(str, expected))}) float32, got {found}")
        return self.batched(lambda rows: self._infer(crops[rows]), crops)

    def batched(self, run: Callable[[slice], Array], items: Array) -> Array:
        """Run over slices of at most `max_batch` rows and join what they give."""
        starts = range(0, len(items), self.max_batch)
        parts = [run(slice(start, start + self.max_batch)) for start in starts]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.spec.labels)), np.float32)

    @abstractmethod
    def _classify(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        """Crop and infer 1 to `max_batch` faces: those of one or more frames, each with boxes."""

    @abstractmethod
    def _infer(self, crops: Array) -> Array:
        """Infer 1 to `max_batch` crops."""


def check_frame(frame_bgr: Array) -> None:
    """Check that a frame is what OpenCV reads.

    Raises:
        ValueError: it is not.
    """
    if frame_bgr.ndim != 3 or frame_bgr.shape[2] != 3 or frame_bgr.dtype != np.uint8:
        found = f"{frame_bgr.shape} {frame_bgr.dtype}"
        raise ValueError(f"a frame is (h, w, 3) uint8 in BGR order, got {found}")
