"""The engine interface."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from feredge.runtime.closeable import Closeable
from feredge.runtime.errors import EngineError
from feredge.runtime.faces import with_roll
from feredge.runtime.gpu.frame_layout import layout_of
from feredge.runtime.results import Array
from feredge.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from feredge.runtime.gpu.frames import FrameStore

MAX_SUM_ERROR = 0.02  # of probabilities: FP16 outputs of eight classes stay within 0.004


class Engine(Closeable):
    """A network that is ready to run; use it as a context manager.

    Attributes:
        spec: input, labels, crop and origin of the network.
        max_batch: the most faces that run in one batch; larger calls are split.
        device: `cpu` or `cuda`.
        frames: on a GPU, the frames in its memory; a detector opened with them shares them.
    """

    spec: ModelSpec
    max_batch: int
    device: str = "cpu"
    frames: FrameStore | None = None

    def classify(self, frame_bgr: Array, boxes_xyxy: Array) -> Array:
        """Cut the faces out of a frame and classify them.

        Args:
            frame_bgr: `(h, w, 3)` uint8; also `(h, w, 4)` BGRx or `(h * 3 / 2, w)` NV12.
            boxes_xyxy: `(n, 4)`, pixel edges; may reach outside the frame. `Faces.oriented_boxes`,
                `(n, 5)`, for a network whose crops are upright (`spec.crop.align`).

        Returns:
            `(n, classes)` float32 probabilities.

        Raises:
            ValueError: the frame has another shape or dtype; a BoxError for a box without a crop.
            EngineError: the network's output is not a probability distribution.
        """
        return self.classify_frames([frame_bgr], [boxes_xyxy])[0]

    def classify_frames(
        self, frames_bgr: Sequence[Array], boxes_xyxy: Sequence[Array]
    ) -> list[Array]:
        """Classify the faces of several frames, all in one batch.

        Args:
            frames_bgr: as for `classify`; their sizes may differ.
            boxes_xyxy: for each frame `(n, 4)` or `(n, 5)`, pixel edges.

        Returns:
            For each frame `(n, classes)` float32 probabilities.

        Raises:
            ValueError, EngineError: as `classify`.
        """
        for frame_bgr in frames_bgr:
            layout_of(frame_bgr)
        if not len(frames_bgr):
            return []
        of_each = [with_roll(boxes) for boxes in boxes_xyxy]
        counts, boxes = [len(rows) for rows in of_each], np.concatenate(of_each)
        of_frame = np.repeat(np.arange(len(counts)), counts)

        def run(rows: slice) -> Array:
            return self._classify([(frames_bgr[k], boxes[rows][of_frame[rows] == k])
                                   for k in sorted(set(of_frame[rows].tolist()))])

        return np.split(self.run_batches(run, boxes), np.cumsum(counts)[:-1])

    def infer(self, crops: Array) -> Array:
        """Classify face crops.

        Args:
            crops: `(n, 3, side, side)` float32, normalized as the spec defines.

        Returns:
            `(n, classes)` float32 probabilities.

        Raises:
            ValueError: another shape or dtype.
            EngineError: the network's output is not a probability distribution.
        """
        expected = (3, self.spec.input.side, self.spec.input.side)
        if crops.shape[1:] != expected or crops.dtype != np.float32:
            found = f"{crops.shape} {crops.dtype}"
            raise ValueError(f"crops are (n, {', '.join(map(str, expected))}) float32, got {found}")
        return self.run_batches(lambda rows: self._infer(crops[rows]), crops)

    def profile(self, crops: Array) -> dict[str, float]:
        """Infer, and measure the parts of it by trtexec's definitions.

        Args:
            crops: `(n, 3, side, side)` float32, 1 to `max_batch` of them.

        Returns:
            Milliseconds of `h2d`, `compute`, `d2h`, their sum `latency`, and `enqueue`; empty on a
            CPU, where nothing is copied.
        """
        return {}

    def run_batches(self, run: Callable[[slice], Array], items: Array) -> Array:
        """Run over slices of at most `max_batch` rows, check the predictions and join them."""
        starts = range(0, len(items), self.max_batch)
        parts = [run(slice(start, start + self.max_batch)) for start in starts]
        classes = len(self.spec.labels)
        predictions = np.concatenate(parts) if parts else np.zeros((0, classes), np.float32)
        check_predictions(predictions, (len(items), classes))
        return predictions

    @abstractmethod
    def _classify(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        """Crop and infer 1 to `max_batch` faces: frames of uint8, each with boxes `(n, 4)`."""

    @abstractmethod
    def _infer(self, crops: Array) -> Array:
        """Infer 1 to `max_batch` crops, `(n, 3, side, side)` float32; returns `(n, classes)`."""


def check_predictions(predictions: Array, shape: tuple[int, int]) -> None:
    """Check that every row is a probability distribution.

    Args:
        predictions: what a network returned.
        shape: the number of faces and of classes.

    Raises:
        EngineError: another shape, not finite, negative, or a sum that is not 1.
    """
    if predictions.shape != shape:
        raise EngineError(f"the network returned {predictions.shape} values, expected {shape}; "
                          "export it again")
    good = np.isfinite(predictions) & (predictions >= -MAX_SUM_ERROR)
    sums = np.where(good, predictions, np.nan).sum(axis=1)
    rows = np.abs(sums - 1) <= MAX_SUM_ERROR
    if not rows.all():
        row = predictions[int(np.argmin(rows))]
        values = ", ".join(f"{value:.4g}" for value in row[:8])
        raise EngineError(f"the network returned {values}, which are not probabilities: expected "
                          "numbers from 0 to 1 with a sum of 1; the file is damaged or its "
                          "softmax is missing, export it again")
