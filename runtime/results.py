"""The values that the pipeline passes on: frames, faces, track events, and one result per frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from feredge.runtime.faces import Array, Faces

__all__ = ["Array", "Faces", "Frame", "FrameResult", "TrackEvent"]


@dataclass(frozen=True)
class Frame:
    """One frame of a source.

    Attributes:
        index: its number in the source, from 0; a live source skips numbers of dropped frames.
        frame_bgr: `(h, w, 3)` uint8.
        source: the name of the source.
        time_s: the position in a video, the seconds since the start of a live source, 0 for a
            picture.
        captured_s: when a live frame arrived, on the clock of `time.monotonic`; else None.
    """

    index: int
    frame_bgr: Array
    source: str
    time_s: float = 0.0
    captured_s: float | None = None

    @property
    def age_ms(self) -> float | None:
        """The time since a live frame arrived."""
        return None if self.captured_s is None else (time.monotonic() - self.captured_s) * 1e3


@dataclass(frozen=True)
class TrackEvent:
    """The start (`kind` is `enter`) or the end (`exit`) of a track."""

    kind: str
    track_id: int


@dataclass
class FrameResult:
    """The result of one frame.

    Attributes:
        frame: the frame.
        is_detected: False for a frame that the detector skipped.
        detections: all faces that the detector returned.
        faces: the faces that are shown, with probabilities, labels and tracks.
        events: tracks that started or ended in this frame.
        times_s: the duration of each stage.
        ages_ms: the age of a live frame at the end of each stage.
    """

    frame: Frame
    is_detected: bool = True
    detections: Faces = field(default_factory=Faces.empty)
    faces: Faces = field(default_factory=Faces.empty)
    events: Sequence[TrackEvent] = ()
    times_s: dict[str, float] = field(default_factory=dict)
    ages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time_stage(self, stage: str) -> Iterator[None]:
        """Measure the duration of a stage and the age of the frame after it."""
        start_s = time.perf_counter()
        yield
        self.times_s[stage] = time.perf_counter() - start_s
        if (age_ms := self.frame.age_ms) is not None:
            self.ages_ms[stage] = age_ms
