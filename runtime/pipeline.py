"""The pipeline: read, detect, classify, track, draw and write every frame of a source."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from feredge.runtime.detect.base import Detector
from feredge.runtime.engines.base import Engine
from feredge.runtime.errors import SourceError, UsageError
from feredge.runtime.outputs.annotator import Annotator, blur_faces
from feredge.runtime.outputs.base import AnnotatedOutput, Bars, Output
from feredge.runtime.quality import mark_unsure, with_sharpness
from feredge.runtime.results import Array, Faces, Frame, FrameResult
from feredge.runtime.sources.base import Source
from feredge.runtime.timing import StageTimes, Summary
from feredge.runtime.track.options import TrackOptions
from feredge.runtime.track.source_tracks import SourceTracks


def classify(
    frame_bgr: Array, detector: Detector, engine: Engine, max_faces: int | None = None
) -> Faces:
    """Detect the faces of a frame and classify them in one batch.

    Args:
        frame_bgr: `(h, w, 3)` uint8.
        detector: detects the faces.
        engine: classifies them.
        max_faces: keep the faces with the highest scores only.

    Raises:
        SourceError: the frame is None, as OpenCV returns it for a file that it cannot read.
        EngineError: the network's output is not a probability distribution.
    """
    if frame_bgr is None:
        raise SourceError("frame_bgr is None, expected (h, w, 3) uint8: cv2.imread returns None "
                          "for a file that it cannot read, so check the path and the file")
    faces = detector.detect(frame_bgr)[:max_faces].within(frame_bgr.shape)
    probabilities = engine.classify(frame_bgr, faces.oriented_boxes)
    return faces.with_probabilities(probabilities, engine.spec.labels)


@dataclass(frozen=True)
class PipelineOptions:
    """How frames are processed.

    Attributes:
        max_faces: keep the faces with the highest scores only; None: all faces.
        concurrent_frames: frames in detection and classification at the same time, one thread each;
            needs an engine and a detector on the CPU, and adds latency to live sources.
        blur: pixelate all faces in the frames that the outputs receive.
        tracks: tracking and smoothing; off for pictures, which have no order.
        bars: see `Annotator`.
        min_confidence: faces below this confidence have no label; None: every face has one.
        landmarks: measure the sharpness of faces, for the outputs that write landmarks.
    """

    max_faces: int | None = None
    concurrent_frames: int = 1
    blur: bool = False
    tracks: TrackOptions = field(default_factory=TrackOptions)
    bars: Bars = "auto"
    min_confidence: float | None = None
    landmarks: bool = False

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: one is out of its range.
        """
        if self.max_faces is not None and self.max_faces < 0:
            raise UsageError(f"max_faces is {self.max_faces}, expected 0 or more")
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise UsageError(f"`min_confidence` is {self.min_confidence}, expected 0 to 1")
        if self.concurrent_frames < 1:
            raise UsageError(f"concurrent_frames is {self.concurrent_frames}, expected 1 or more")
        if self.concurrent_frames > 1 and self.tracks.reuse is not None:
            raise UsageError("reuse needs the frames one after the other: leave out reuse or "
                             "concurrent_frames")


class Pipeline:
    """Processes a source to its end; any thread may ask for its `summary`.

    Each frame goes through two halves. `analyze` detects and classifies; it needs no other frame,
    so several frames may go through it concurrently. Tracking, smoothing, drawing and writing need
    the frames in order. Frames of several sources are analyzed together, with all of their faces in
    one batch.

    Args:
        source: where the frames come from; the caller closes it.
        detector: detects the faces.
        engine: classifies them.
        outputs: receive the result of every frame; the caller closes them.
        annotated_outputs: receive the annotated frame as well.
        options: None: the defaults.
    """

    def __init__(
        self, source: Source, detector: Detector, engine: Engine, outputs: Sequence[Output] = (),
        annotated_outputs: Sequence[AnnotatedOutput] = (), options: PipelineOptions | None = None,
    ) -> None:
        options = options or PipelineOptions()
        self.source, self.detector, self.engine = source, detector, engine
        self.outputs, self.annotated_outputs = outputs, annotated_outputs
        self.options = options if source.is_ordered else replace(
            options, tracks=replace(options.tracks, track=False))
        self.tracks: dict[str, SourceTracks] = {}  # by source; pictures share one
        self.track_ids = count(1)
        self.annotator = Annotator(engine.spec.labels, options.bars)
        self.stages = StageTimes()
        self.frames = self.faces = self.unsure = 0
        self.started_s = time.perf_counter()

    def run(self, on_frame: Callable[[FrameResult], None] | None = None) -> None:
        """Process and write every frame until the source ends or is stopped.

        Args:
            on_frame: called with the result of every frame after it was written.
        """
        self.started_s = time.perf_counter()  # outputs may have been opened since the start
        for result in self.results():
            self.write(result, self.annotate(result))
            if on_frame is not None:
                on_frame(result)

    def results(self) -> Iterator[FrameResult]:
        """Yield the result of every frame, in order, without drawing and writing."""
        batches = self.read()
        if self.options.concurrent_frames > 1:
            analyzed: Iterable[list[FrameResult]] = self.analyze_concurrently(batches)
        else:
            analyzed = map(self.analyze, batches)
        for results in analyzed:
            for result in results:
                self.tracks_of(result.frame).track(result)
                yield result

    def read(self) -> Iterator[list[FrameResult]]:
        """Yield an empty result per frame of each batch; the frames to detect are marked."""
        batches = self.source.batches()
        while True:
            start_s = time.perf_counter()
            frames = next(batches, [])
            if not frames:
                return
            times_s = {"read": time.perf_counter() - start_s}
            yield [FrameResult(frame, self.tracks_of(frame).next_is_detected(),
                               times_s=dict(times_s)) for frame in frames]

    def analyze_concurrently(
        self, batches: Iterator[list[FrameResult]]
    ) -> Iterator[list[FrameResult]]:
        """Keep all threads busy, with one more frame queued for each; yield in order."""
        waiting: deque[Future[list[FrameResult]]] = deque()
        threads = ThreadPoolExecutor(self.options.concurrent_frames, "frames")
        try:
            for batch in batches:
                waiting.append(threads.submit(self.analyze, batch))
                if len(waiting) > 2 * self.options.concurrent_frames:
                    yield waiting.popleft().result()
            while waiting and not self.source.stopped:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)

    def tracks_of(self, frame: Frame) -> SourceTracks:
        """Return the state of a frame's source."""
        name = frame.source if self.source.is_ordered else ""
        if name not in self.tracks:
            self.tracks[name] = SourceTracks(self.options.tracks, self.track_ids)
        return self.tracks[name]

    def analyze(self, results: list[FrameResult]) -> list[FrameResult]:
        """Detect and classify the faces of one batch of frames; several threads may call it."""
        detected = [result for result in results if result.is_detected]
        for result in detected:
            with result.time_stage("detect"):
                result.detections = self.detector.detect(result.frame.frame_bgr)
            best = result.detections[: self.options.max_faces]
            result.faces = best.within(result.frame.frame_bgr.shape)
        if detected:
            self.classify(detected)
        return results

    def classify(self, results: list[FrameResult]) -> None:
        """Classify the faces of all frames in one batch."""
        states = [self.tracks_of(result.frame) for result in results]
        with ExitStack() as timing:
            for result in results:
                timing.enter_context(result.time_stage("classify"))
            classified = self.engine.classify_frames(
                [result.frame.frame_bgr for result in results],
                [state.boxes_to_classify(result) for state, result in zip(states, results)],
            )
        for result, state, probabilities in zip(results, states, classified):
            spec = self.engine.spec
            faces = result.faces.with_probabilities(state.all_probabilities(probabilities),
                                                    spec.labels)
            if self.options.landmarks:
                faces = with_sharpness(result.frame.frame_bgr, faces)
            result.faces = faces if self.options.min_confidence is None else mark_unsure(
                result.frame.frame_bgr, faces, spec.confidence, self.options.min_confidence)

    def annotate(self, result: FrameResult) -> Array | None:
        """Blur the frame if asked, and return it with its faces drawn, `(h, w, 3)` uint8.

        The outputs never receive a frame that is not blurred. None: no output needs a picture.
        """
        if not self.options.blur and not self.annotated_outputs:
            return None
        with result.time_stage("draw"):
            if self.options.blur:
                boxes_xyxy = self.tracks_of(result.frame).boxes_to_blur(result)
                blurred_bgr = blur_faces(result.frame.frame_bgr, boxes_xyxy)
                result.frame = replace(result.frame, frame_bgr=blurred_bgr)
            if not self.annotated_outputs:
                return None
            return self.annotator.draw(result.frame.frame_bgr, result.faces)

    def write(self, result: FrameResult, annotated_bgr: Array | None) -> None:
        """Pass one frame, with its annotated `(h, w, 3)` picture, to the outputs and count it."""
        with result.time_stage("write"):
            for output in self.outputs:
                output.write(result)
            if annotated_bgr is not None:
                for annotated_output in self.annotated_outputs:
                    annotated_output.write_annotated(result, annotated_bgr)
        self.stages.add(result)
        self.frames += 1
        self.faces += len(result.faces)
        self.unsure += int(np.count_nonzero(result.faces.label_ids < 0))
        self.tracks_of(result.frame).count(result.frame.index, self.source.is_live)

    def summary(self) -> Summary:
        """Return the totals so far."""
        seconds = time.perf_counter() - self.started_s
        dropped = sum(state.dropped for state in list(self.tracks.values()))
        return Summary(self.frames, dropped, self.faces, self.unsure, round(seconds, 3),
                       round(self.frames / seconds, 2), self.stages.summary(),
                       tuple(self.source.problems))
