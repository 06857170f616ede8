"""The pipeline: every frame of a source is searched, classified, tracked, drawn and written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle

import numpy as np

from feredge.runtime.answer import Answer
from feredge.runtime.detector import Detector
from feredge.runtime.draw import Annotator, pixelated
from feredge.runtime.engines import Engine
from feredge.runtime.faces import Array, Faces
from feredge.runtime.outputs import Output
from feredge.runtime.smoothing import Smoother
from feredge.runtime.sources import Frame, Source
from feredge.runtime.tracking import Tracker

STAGES = ("read", "detect", "classify", "track", "draw", "write")


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
    faces = faces.within(frame_bgr.shape)
    return faces.classified(engine.classify(frame_bgr, faces.boxes_xyxy))


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
    """Median and 95th percentile of one stage, milliseconds a frame that went through it."""

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
    """Runs a source to its end and keeps count; `summary` may be asked at any time.

    A frame goes through two halves. `answer` searches and classifies it, by itself: `at_once`
    frames go through it side by side, each in one thread, since two networks that run one after
    the other never keep all cores busy. It needs an engine and a detector on the CPU, and it delays
    a frame: a live source does better with one at a time. `follow` needs the frames before, so it
    takes them in their order: tracking, smoothing, drawing, writing.

    With `detect_every` N both networks see every N-th frame only; in between the tracks carry their
    boxes and their last answers.
    """

    def __init__(
        self, source: Source, detector: Detector, engine: Engine, outputs: Sequence[Output],
        max_faces: int | None = None, at_once: int = 1, *, tracks: bool = False,
        detect_every: int = 1, blur: bool = False,
    ) -> None:
        self.source, self.detector, self.engine = source, detector, engine
        self.outputs, self.max_faces, self.at_once = outputs, max_faces, at_once
        self.tracker = Tracker() if tracks else None
        self.smoother = Smoother() if tracks else None
        self.blur = blur
        self.searched = cycle([True] + [False] * (detect_every - 1))
        self.annotator = Annotator(engine.spec.labels)
        self.times = {name: Latencies() for name in STAGES}
        self.frames = self.dropped = self.faces = 0
        self.started_s = time.perf_counter()

    def run(self) -> None:
        """Work through the source until it ends or is stopped."""
        frames = iter(self.source.frames())
        if self.at_once > 1:
            return self.run_side_by_side(frames)
        while (frame := self.read(frames)) is not None:
            self.step(frame)

    def run_side_by_side(self, frames: Iterator[Frame]) -> None:
        """Keep `at_once` threads busy, and one more frame ready for each of them."""
        waiting: deque[Future[Answer]] = deque()
        with ThreadPoolExecutor(self.at_once, "frames") as threads:
            while (frame := self.read(frames)) is not None:
                waiting.append(threads.submit(self.answer, frame, next(self.searched)))
                if len(waiting) > 2 * self.at_once:
                    self.follow(waiting.popleft().result())
            while waiting and not self.source.stopped:
                self.follow(waiting.popleft().result())
            threads.shutdown(cancel_futures=True)

    def read(self, frames: Iterator[Frame]) -> Frame | None:
        """Take the next frame; None at the end."""
        start_s = time.perf_counter()
        frame = next(frames, None)
        self.times["read"].add(time.perf_counter() - start_s)
        return frame

    def step(self, frame: Frame) -> None:
        """Take one frame through both halves."""
        self.follow(self.answer(frame, next(self.searched)))

    def answer(self, frame: Frame, searched: bool) -> Answer:
        """Search and classify one frame, if it is its turn; several threads may do so at once."""
        answer = Answer(frame, searched)
        if searched:
            with answer.timed("detect"):
                answer.found = self.detector.detect(frame.frame_bgr)
            with answer.timed("classify"):
                best = answer.found[: self.max_faces]
                answer.faces = classified(frame.frame_bgr, best, self.engine)
        return answer

    def follow(self, answer: Answer) -> None:
        """Track, smooth, draw and write one frame, after those before it."""
        if self.tracker is not None:
            with answer.timed("track"):
                self.track(answer, self.tracker)
        if any(output.draws for output in self.outputs):
            with answer.timed("draw"):
                answer.drawn = self.draw(answer)
        self.write(answer)

    def track(self, answer: Answer, tracker: Tracker) -> None:
        """Tell who is who, or carry those of the last search on, and steady their answers."""
        time_s = answer.frame.time_s
        if answer.searched:
            answer.faces = tracker.update(answer.faces, time_s)
        else:
            answer.faces = tracker.predict(time_s).within(answer.frame.frame_bgr.shape)
        answer.events = tracker.events
        if self.smoother is not None:
            answer.faces = self.smoother.update(answer.faces, time_s)

    def draw(self, answer: Answer) -> Array:
        """Draw the faces; blurred are also those that are not shown, or were missed just now."""
        frame_bgr = answer.frame.frame_bgr
        if self.blur:
            hidden = [answer.found]
            if self.tracker is not None:
                hidden.append(self.tracker.predict(answer.frame.time_s, unseen=True))
            boxes_xyxy = np.concatenate([faces.boxes_xyxy for faces in hidden])
            frame_bgr = pixelated(frame_bgr, boxes_xyxy)
        return self.annotator.draw(frame_bgr, answer.faces)

    def write(self, answer: Answer) -> None:
        """Hand one frame to the outputs and count it."""
        with answer.timed("write"):
            for output in self.outputs:
                output.write(answer)
        for stage, seconds in answer.times_s.items():
            self.times[stage].add(seconds)
        self.frames += 1
        self.faces += len(answer.faces)
        if self.source.live:  # its missing numbers are frames that were dropped
            self.dropped = answer.frame.index + 1 - self.frames

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
