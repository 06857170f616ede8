"""The faces of a frame as parallel arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feredge.runtime.errors import require

if TYPE_CHECKING:
    import pandas
    import supervision

Array = NDArray[Any]
ROWS = ("boxes_xyxy", "landmarks", "scores", "track_ids", "probabilities", "label_ids",
        "confidences", "sharpness")


@dataclass(frozen=True)
class Faces:
    """The faces of a frame: parallel arrays with one row per face.

    An index, a slice, a mask or an index array selects faces; iteration yields single faces. A
    single face is `Faces` of length 1 and has a `label`.

    Attributes:
        boxes_xyxy: `(n, 4)` float32, pixel edges.
        landmarks: `(n, 5, 2)` float32, px: right eye, left eye, nose, right and left corner of the
            mouth, from the person's point of view.
        scores: `(n,)` float32, the detector's score from 0 to 1.
        track_ids: `(n,)` int64; -1 for a face without a track.
        probabilities: `(n, classes)` float32; `(n, 0)` before classification.
        label_ids: `(n,)` int64, the class that is shown; -1 before classification and for a face
            that is unsure. It is the most probable class, or the smoothed label of its track.
        confidences: `(n,)` float32, the confidence that the label is right; NaN if there is no
            minimum that it is compared with.
        sharpness: `(n,)` float32, see `FaceQuality`; NaN if it was not measured.
        class_names: the names of the classes, in the order of the probabilities.
    """

    boxes_xyxy: Array
    landmarks: Array
    scores: Array
    track_ids: Array
    probabilities: Array
    label_ids: Array
    confidences: Array
    sharpness: Array
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that all arrays have the same number of rows.

        Raises:
            ValueError: they do not.
        """
        rows = {name: len(getattr(self, name)) for name in ROWS}
        if len(set(rows.values())) != 1:
            raise ValueError(f"every array needs one row per face, got {rows}")

    @staticmethod
    def empty() -> Faces:
        """Return zero faces."""
        return Faces.from_detections(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))

    @staticmethod
    def from_detections(boxes_xyxy: Array, landmarks: Array, scores: Array) -> Faces:
        """Return detected faces, without tracks and probabilities.

        Args:
            boxes_xyxy: `(n, 4)`, pixel edges.
            landmarks: `(n, 5, 2)`, px.
            scores: `(n,)`, 0 to 1.
        """
        return Faces(
            np.asarray(boxes_xyxy, np.float32),
            np.asarray(landmarks, np.float32),
            np.asarray(scores, np.float32),
            np.full(len(scores), -1, np.int64),
            np.zeros((len(scores), 0), np.float32),
            np.full(len(scores), -1, np.int64),
            np.full(len(scores), np.nan, np.float32),
            np.full(len(scores), np.nan, np.float32),
        )

    @staticmethod
    def concatenate(parts: Sequence[Faces]) -> Faces:
        """Return all faces of several `Faces` of the same network, in order."""
        if not parts:
            return Faces.empty()
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts])
                                   for name in ROWS}
        return replace(parts[0], **columns)

    def with_probabilities(self, probabilities: Array, class_names: tuple[str, ...] = ()) -> Faces:
        """Return the faces with their probabilities; the most probable class becomes the label.

        Args:
            probabilities: `(n, classes)` float32.
            class_names: the names of the classes, in the same order.
        """
        return replace(self, probabilities=probabilities, class_names=class_names,
                       label_ids=probabilities.argmax(axis=1).astype(np.int64))

    def within(self, frame_shape: tuple[int, ...]) -> Faces:
        """Return the faces whose boxes overlap a frame of shape `(h, w, ...)`."""
        height, width = frame_shape[:2]
        x0, y0, x1, y1 = self.boxes_xyxy.T
        return self[(x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height)]

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.scores)

    def __getitem__(self, rows: int | slice | Array) -> Faces:
        """Return the faces at an index, a slice, a mask or an index array.

        Raises:
            IndexError: there is no face at an index.
        """
        if isinstance(rows, int | np.integer):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"face {rows} of {len(self)}")
            rows = np.array([rows])
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in ROWS}
        return replace(self, **columns)

    def __iter__(self) -> Iterator[Faces]:
        """Yield the faces one by one, each as `Faces` of length 1."""
        return (self[row] for row in range(len(self)))

    @property
    def oriented_boxes(self) -> Array:
        """The boxes and the roll of the eyes, clockwise in radians, `(n, 5)` float64."""
        eyes = self.landmarks[:, 1].astype(np.float64) - self.landmarks[:, 0]
        roll = np.arctan2(eyes[:, 1], eyes[:, 0])
        return np.column_stack([self.boxes_xyxy.astype(np.float64), roll])

    @property
    def label(self) -> str | None:
        """The label of a single face; None before classification, and if it is unsure.

        Raises:
            ValueError: there is not exactly one face.
        """
        label_id = int(self._single().label_ids[0])
        return self.class_names[label_id] if label_id >= 0 else None

    def probability(self, class_name: str | None = None) -> float:
        """Return the probability of a class for a single face.

        Args:
            class_name: None is the label that is shown.

        Raises:
            ValueError: there is not exactly one face, it is not classified, or it has no such
                class.
        """
        name = self.label if class_name is None else class_name
        if name not in self.class_names:
            raise ValueError(f"no class {name!r}; the classes are {', '.join(self.class_names)}")
        return float(self._single().probabilities[0, self.class_names.index(name)])

    def crop(self, frame_bgr: Array) -> Array:
        """Return the part of the frame inside the box of a single face, `(h, w, 3)`, as a view.

        Raises:
            ValueError: there is not exactly one face, or its box is outside the frame.
        """
        (box,) = self._single().boxes_xyxy
        height, width = frame_bgr.shape[:2]
        x0, y0, x1, y1 = np.clip(np.rint(box), 0, [width, height] * 2).astype(int).tolist()
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"box {box.tolist()} has no pixel in a frame of {width}x{height}")
        return frame_bgr[y0:y1, x0:x1]

    def _single(self) -> Faces:
        if len(self) != 1:
            raise ValueError(f"expected a single face, got {len(self)}: iterate over the faces or "
                             "index them first")
        return self

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table with one row per face: track, box, score, label, and class probabilities.

        Raises:
            PackageError: pandas is not installed.
        """
        columns: dict[str, Any] = {"track_id": self.track_ids}
        columns |= dict(zip(("x0", "y0", "x1", "y1"), self.boxes_xyxy.T))
        columns |= {"score": self.scores, "label": [face.label for face in self]}
        columns |= dict(zip(self.class_names, self.probabilities.T))
        table: pandas.DataFrame = require("pandas", "interop").DataFrame(columns)
        return table

    def to_supervision(self) -> supervision.Detections:
        """Return the faces as `supervision.Detections`.

        `confidence` is the detector's score, `class_id` the label's index; the label and its
        probability are in `data["class_name"]` and `data["probability"]`.

        Raises:
            PackageError: supervision is not installed.
        """
        shown = self.label_ids.clip(min=0)
        found: supervision.Detections = require("supervision", "interop").Detections(
            xyxy=self.boxes_xyxy, confidence=self.scores, class_id=self.label_ids,
            tracker_id=self.track_ids,
            data={"class_name": np.array([face.label for face in self], object),
                  "probability": self.probabilities[np.arange(len(self)), shown]
                  if self.class_names else np.zeros(len(self), np.float32)},
        )
        return found


def with_roll(boxes_xyxy: Array) -> Array:
    """Return boxes as `(n, 5)` float64, the fifth column the roll of the face in radians.

    Args:
        boxes_xyxy: `(n, 4)`, of upright faces, or `(n, 5)`, as `Faces.oriented_boxes`.
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    if boxes.ndim == 2 and boxes.shape[1] == 5:
        return boxes
    boxes = boxes.reshape(-1, 4)
    return np.concatenate([boxes, np.zeros((len(boxes), 1))], axis=1)
