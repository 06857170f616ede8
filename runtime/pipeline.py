"""The pipeline: every frame of its sources is searched, classified, tracked, drawn, written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count

import numpy as np

from feredge.runtime.detect.base import Detector
from feredge.runtime.engines.base import Engine
from feredge.runtime.outputs.annotator import Annotator, blur_faces
from feredge.runtime.outputs.base import AnnotatedOutput, Output
from feredge.runtime.results import Array, Faces, Frame, FrameResult
from feredge.runtime.sources.base import Source
from feredge.runtime.track.source_tracks import SourceTracks

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
    faces = detector.detect(frame_bgr)[:max_faces].within(frame_bgr.shape)
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
    """Median and 95th percentile of one stage, milliseconds a frame that went through it.

    `age_ms` is the median age of a live frame after it. The classification of several frames in one
    batch counts whole for each of them.
    """

    median_ms: float
    p95_ms: float
    age_ms: float | None = None


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
    a frame: a live source does better with one at a time. Of several sources, the frames that are
    there go through it together, and all of their faces are one batch. `follow` needs the frames
    before, so it takes them in their order: tracking, smoothing, drawing, writing.

    With `detect_every` N both networks see every N-th frame only; in between the tracks carry their
    boxes and their last answers.
    """

    def __init__(
        self, source: Source, detector: Detector, engine: Engine,
        outputs: Sequence[Output], max_faces: int | None = None, at_once: int = 1, *,
        annotated_outputs: Sequence[AnnotatedOutput] = (), tracks: bool = False,
        detect_every: int = 1, blur: bool = False, smooth: bool = True,
    ) -> None:
        self.source, self.detector, self.engine = source, detector, engine
        self.outputs, self.annotated_outputs = outputs, annotated_outputs
        self.max_faces, self.at_once = max_faces, at_once
        self.blur = blur
        self.new_stream = partial(SourceTracks, tracks, tracks and smooth, detect_every, count(1))
        # By source; pictures, which have no order, share one.
        self.streams: dict[str, SourceTracks] = {}
        self.annotator = Annotator(engine.spec.labels)
        self.times = {name: Latencies() for name in STAGES}
        self.ages = {name: Latencies() for name in STAGES}
        self.frames = self.faces = 0
        self.started_s = time.perf_counter()

    def run(self) -> None:
        """Work through the source until it ends or is stopped."""
        rounds = self.source.batches()
        if self.at_once > 1:
            return self.run_side_by_side(rounds)
        while frames := self.read(rounds):
            self.step(frames)

    def run_side_by_side(self, rounds: Iterator[list[Frame]]) -> None:
        """Keep `at_once` threads busy, and one more frame ready for each of them."""
        waiting: deque[Future[list[FrameResult]]] = deque()
        with ThreadPoolExecutor(self.at_once, "frames") as threads:
            while frames := self.read(rounds):
                waiting.append(threads.submit(self.answer, self.begun(frames)))
                if len(waiting) > 2 * self.at_once:
                    self.follow(waiting.popleft().result())
            while waiting and not self.source.stopped:
                self.follow(waiting.popleft().result())
            threads.shutdown(cancel_futures=True)

    def read(self, rounds: Iterator[list[Frame]]) -> list[Frame]:
        """Take the next frame, one a source at most; none at the end."""
        start_s = time.perf_counter()
        frames = next(rounds, [])
        self.times["read"].add(time.perf_counter() - start_s)
        return frames

    def step(self, frames: list[Frame]) -> None:
        """Take frames of different sources through both halves."""
        self.follow(self.answer(self.begun(frames)))

    def begun(self, frames: list[Frame]) -> list[FrameResult]:
        """Return what the answers will be, once it is clear whose turn a search is."""
        return [FrameResult(frame, next(self.stream(frame).is_detected)) for frame in frames]

    def stream(self, frame: Frame) -> SourceTracks:
        """Return what is kept of a frame's source."""
        name = frame.source if self.source.is_ordered else ""
        if name not in self.streams:
            self.streams[name] = self.new_stream()
        return self.streams[name]

    def answer(self, answers: list[FrameResult]) -> list[FrameResult]:
        """Search and classify frames whose turn it is; several threads may do so at once."""
        searched = [answer for answer in answers if answer.is_detected]
        for answer in searched:
            with answer.timed("detect"):
                answer.detections = self.detector.detect(answer.frame.frame_bgr)
            best = answer.detections[: self.max_faces]
            answer.faces = best.within(answer.frame.frame_bgr.shape)
        if searched:
            self.classify(searched)
        return answers

    def classify(self, answers: list[FrameResult]) -> None:
        """Classify the faces of all frames in one batch."""
        with ExitStack() as timing:
            for answer in answers:
                timing.enter_context(answer.timed("classify"))
            probabilities = self.engine.classify_frames(
                [answer.frame.frame_bgr for answer in answers],
                [answer.faces.boxes_xyxy for answer in answers],
                [answer.frame.source for answer in answers],
            )
        for answer, rows in zip(answers, probabilities):
            answer.faces = answer.faces.classified(rows)

    def follow(self, answers: list[FrameResult]) -> None:
        """Track, smooth, draw and write frames, after those before them."""
        for answer in answers:
            self.stream(answer.frame).track(answer)
            self.write(answer, self.annotate(answer))

    def annotate(self, answer: FrameResult) -> Array | None:
        """Blur the frame if asked, and return it with its faces drawn, `(h, w, 3)` uint8.

        The outputs never receive a frame that is not blurred. None: no output needs a picture.
        """
        if not self.blur and not self.annotated_outputs:
            return None
        with answer.timed("draw"):
            if self.blur:
                boxes_xyxy = np.concatenate(self.stream(answer.frame).hidden_boxes(answer))
                blurred_bgr = blur_faces(answer.frame.frame_bgr, boxes_xyxy)
                answer.frame = replace(answer.frame, frame_bgr=blurred_bgr)
            if not self.annotated_outputs:
                return None
            return self.annotator.draw(answer.frame.frame_bgr, answer.faces)

    def write(self, answer: FrameResult, annotated_bgr: Array | None) -> None:
        """Pass one frame to the outputs and count it."""
        with answer.timed("write"):
            for output in self.outputs:
                output.write(answer)
            if annotated_bgr is not None:
                for annotated_output in self.annotated_outputs:
                    annotated_output.write_annotated(answer, annotated_bgr)
        for stage, seconds in answer.times_s.items():
            self.times[stage].add(seconds)
        for stage, age_ms in answer.ages_ms.items():
            self.ages[stage].add(age_ms / 1e3)
        self.frames += 1
        self.faces += len(answer.faces)
        self.stream(answer.frame).count(answer.frame.index, self.source.is_live)

    def summary(self) -> Summary:
        """Return the totals so far."""
        seconds = time.perf_counter() - self.started_s
        stages = {}
        for name, times in self.times.items():
            median_ms, p95_ms = times.percentile_ms(50), times.percentile_ms(95)
            if median_ms is not None and p95_ms is not None:
                age_ms = self.ages[name].percentile_ms(50)
                stages[name] = StageTime(round(median_ms, 3), round(p95_ms, 3),
                                         None if age_ms is None else round(age_ms, 3))
        rate = round(self.frames / seconds, 2)
        dropped = sum(stream.dropped for stream in list(self.streams.values()))
        return Summary(self.frames, dropped, self.faces, round(seconds, 3), rate, stages)
