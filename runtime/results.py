"""What passes through the pipeline: frames, faces, events, and one result per frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Faces:
    """Parallel arrays, one row a face.

    `boxes_xyxy` `(n, 4)` float32 pixel edges, `landmarks` `(n, 5, 2)` float32 px (right eye, left
    eye, nose, right and left mouth corner, as the person has them), `scores` `(n,)` float32,
    `track_ids` `(n,)` int64, -1 without a track, `probabilities` `(n, classes)` float32, `(n, 0)`
    before they are classified, `label_ids` `(n,)` int64 the class that is shown, -1 before. It is
    the most probable one, but where a track keeps its label for a moment longer than that.
    """

    boxes_xyxy: Array
    landmarks: Array
    scores: Array
    track_ids: Array
    probabilities: Array
    label_ids: Array

    def __post_init__(self) -> None:
        """Check that all arrays have one row a face.

        Raises:
            ValueError: they do not.
        """
        rows = {item.name: len(getattr(self, item.name)) for item in fields(self)}
        if len(set(rows.values())) != 1:
            raise ValueError(f"one row a face is expected in every array, got {rows}")

    @staticmethod
    def empty() -> Faces:
        """Return no faces at all."""
        return Faces.detected(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))

    @staticmethod
    def detected(boxes_xyxy: Array, landmarks: Array, scores: Array) -> Faces:
        """Return faces as a detector gives them: without tracks and probabilities."""
        return Faces(
            np.asarray(boxes_xyxy, np.float32),
            np.asarray(landmarks, np.float32),
            np.asarray(scores, np.float32),
            np.full(len(scores), -1, np.int64),
            np.zeros((len(scores), 0), np.float32),
            np.full(len(scores), -1, np.int64),
        )

    @staticmethod
    def joined(parts: Sequence[Faces]) -> Faces:
        """Return the faces of several as one."""
        if not parts:
            return Faces.empty()
        columns = ([getattr(part, item.name) for part in parts] for item in fields(Faces))
        return Faces(*(np.concatenate(column) for column in columns))

    def classified(self, probabilities: Array) -> Faces:
        """Return the faces with their `(n, classes)` probabilities; the best of each is shown."""
        label_ids = probabilities.argmax(axis=1).astype(np.int64)
        return replace(self, probabilities=probabilities, label_ids=label_ids)

    def within(self, frame_shape: tuple[int, ...]) -> Faces:
        """Return the faces that reach into a frame of `(h, w, ...)`: others have no crop."""
        height, width = frame_shape[:2]
        x0, y0, x1, y1 = self.boxes_xyxy.T
        return self[(x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height)]

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.scores)

    def __getitem__(self, rows: Array | slice) -> Faces:
        """Return the faces that a mask, an index array or a slice selects."""
        return Faces(*(getattr(self, item.name)[rows] for item in fields(self)))


@dataclass(frozen=True)
class Frame:
    """One frame: `frame_bgr` `(h, w, 3)` uint8, where it is from, and when.

    `time_s` is the position in a video, seconds since the start of a live source, 0 for a picture.
    `captured_s` is when it arrived, on `time.monotonic`'s clock; None where frames do not age.
    """

    index: int
    frame_bgr: Array
    source: str
    time_s: float = 0.0
    captured_s: float | None = None

    @property
    def age_ms(self) -> float | None:
        """How long ago a live frame arrived."""
        return None if self.captured_s is None else (time.monotonic() - self.captured_s) * 1e3


@dataclass(frozen=True)
class TrackEvent:
    """A person came into view, `enter`, or left, `exit`."""

    kind: str
    track_id: int


@dataclass
class FrameResult:
    """The result of one frame: its faces, track events, and the times of the stages.

    `is_detected` is False for a frame that the detector skipped; `detections` are all faces that
    the detector returned, `faces` those that are shown, with tracks and probabilities. `times_s` is
    the duration of each stage, `ages_ms` the age of a live frame at the end of each stage.
    """

    frame: Frame
    is_detected: bool = True
    detections: Faces = field(default_factory=Faces.empty)
    faces: Faces = field(default_factory=Faces.empty)
    events: Sequence[TrackEvent] = ()
    times_s: dict[str, float] = field(default_factory=dict)
    ages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time one stage."""
        start_s = time.perf_counter()
        yield
        self.times_s[stage] = time.perf_counter() - start_s
        if (age_ms := self.frame.age_ms) is not None:
            self.ages_ms[stage] = age_ms
