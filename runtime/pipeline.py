"""The pipeline: every frame of a source is searched, classified, drawn and written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np

from feredge.runtime.detector import Detector
from feredge.runtime.draw import Annotator
from feredge.runtime.engines import Engine
from feredge.runtime.faces import Array, Faces
from feredge.runtime.outputs import Output
from feredge.runtime.sources import Frame, Source

STAGES = ("read", "detect", "classify", "draw", "write")


def classify(
    frame_bgr: Array, detector: Detector, engine: Engine, max_faces: int | None = None
) -> Faces:
    """Find the faces of a frame and classify them, all in one batch.

    Args:
        frame_bgr: `(h, w, 3)` uint8.
        detector: finds the faces.
        engine: classifies them.
        max_faces: keep the best of them only.
    """
    faces = detector.detect(frame_bgr)[:max_faces]
    return classified(frame_bgr, faces, engine)


def classified(frame_bgr: Array, faces: Faces, engine: Engine) -> Faces:
    """Return the faces with their probabilities; those wholly outside the frame are dropped."""
    height, width = frame_bgr.shape[:2]
    x0, y0, x1, y1 = faces.boxes_xyxy.T
    faces = faces[(x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height)]
    return replace(faces, probabilities=engine.classify(frame_bgr, faces.boxes_xyxy))


class Latencies:
    """Durations in bins 2 % wide: their percentiles need no more memory as they grow in number."""

    def __init__(self) -> None:
        self.counts = np.zeros(1024, np.int64)

    def add(self, seconds: float) -> None:
        """Count one duration, 1 us to 10 min."""
        self.counts[min(int(np.log(max(seconds, 1e-6) / 1e-6) / 0.02), 1023)] += 1

    def percentile_ms(self, percent: float) -> float | None:
        """Return a percentile within 1 %; None without samples."""
        total = self.counts.sum()
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self.counts), total * percent / 100))
        return float(1e-3 * np.exp((place + 0.5) * 0.02))


@dataclass(frozen=True)
class StageTime:
    """Median and 95th percentile of one stage, milliseconds a frame."""

    median_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Summary:
    """What a run did: frames, frames that a live source dropped, faces, and where time went."""

    frames: int
    dropped: int
    faces: int
    seconds: float
    frames_per_s: float
    stages: dict[str, StageTime]

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON's types."""
        return asdict(self)

    def __str__(self) -> str:
        """Return it as two lines of text."""
        dropped = f" ({self.dropped} dropped)" if self.dropped else ""
        stages = ", ".join(
            f"{name} {stage.median_ms:.1f} ({stage.p95_ms:.1f})"
            for name, stage in self.stages.items()
        )
        return (f"{self.frames} frames{dropped}, {self.faces} faces, {self.frames_per_s:.1f} "
                f"frames/s over {self.seconds:.1f} s\nmedian (95th percentile) ms: {stages}")


class Pipeline:
    """Runs a source to its end and keeps count; `summary` may be asked at any time."""

    def __init__(
        self, source: Source, detector: Detector, engine: Engine, outputs: Sequence[Output],
        max_faces: int | None = None,
    ) -> None:
        self.source, self.detector, self.engine = source, detector, engine
        self.outputs, self.max_faces = outputs, max_faces
        draws = any(output.draws for output in outputs)
        self.annotator = Annotator(engine.spec.labels) if draws else None
        self.times = {name: Latencies() for name in STAGES}
        self.frames = self.dropped = self.faces = 0
        self.started_s = time.perf_counter()

    def run(self) -> None:
        """Work through the source until it ends or is stopped."""
        frames = iter(self.source.frames())
        while (frame := self.read(frames)) is not None:
            self.step(frame)

    def read(self, frames: Iterator[Frame]) -> Frame | None:
        """Take the next frame; None at the end."""
        with self.timed("read"):
            return next(frames, None)

    def step(self, frame: Frame) -> None:
        """Search, classify, draw and write one frame."""
        with self.timed("detect"):
            faces = self.detector.detect(frame.frame_bgr)[: self.max_faces]
        with self.timed("classify"):
            faces = classified(frame.frame_bgr, faces, self.engine)
        drawn = None
        if self.annotator is not None:
            with self.timed("draw"):
                drawn = self.annotator.draw(frame.frame_bgr, faces)
        with self.timed("write"):
            for output in self.outputs:
                output.write(frame, faces, drawn)
        self.count(frame, faces)

    def count(self, frame: Frame, faces: Faces) -> None:
        """Keep the totals; a live source's missing numbers are frames that were dropped."""
        self.frames += 1
        self.faces += len(faces)
        if self.source.live:
            self.dropped = frame.index + 1 - self.frames

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time one stage of one frame."""
        start_s = time.perf_counter()
        yield
        self.times[stage].add(time.perf_counter() - start_s)

    def summary(self) -> Summary:
        """Return the totals so far."""
        seconds = time.perf_counter() - self.started_s
        stages = {}
        for name, times in self.times.items():
            median_ms, p95_ms = times.percentile_ms(50), times.percentile_ms(95)
            if median_ms is not None and p95_ms is not None:
                stages[name] = StageTime(round(median_ms, 3), round(p95_ms, 3))
        rate = round(self.frames / seconds, 2)
        return Summary(self.frames, self.dropped, self.faces, round(seconds, 3), rate, stages)
