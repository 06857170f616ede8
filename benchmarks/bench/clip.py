"""The whole pipeline on a clip: every stage, end to end, drops, and how old results are."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from feredge.benchmarks.bench.timing import Statistics
from feredge.runtime.detect.base import Detector
from feredge.runtime.engines.base import Engine
from feredge.runtime.errors import SourceError
from feredge.runtime.outputs.text import JsonLines
from feredge.runtime.outputs.video import VideoFile
from feredge.runtime.pipeline import Pipeline, classify
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array, FrameResult
from feredge.runtime.sources import Source, frames_of, open_source
from feredge.runtime.sources.base import DEFAULT_FPS
from feredge.runtime.sources.live import LiveSource

Samples = dict[str, list[float]]
WARM_UP_FRAMES = 5


class SplitEngine:
    """An engine that keeps apart what a CPU spends on crops and on the network.

    A plan's crops never leave the GPU: there both are one stage.
    """

    def __init__(self, engine: Engine, samples: Samples) -> None:
        self.engine, self.spec, self.samples = engine, engine.spec, samples

    def classify_frames(
        self, frames_bgr: Sequence[Array], boxes_xyxy: Sequence[Array]
    ) -> list[Array]:
        """Classify the faces of a clip's frame, alone in its list: `(n, classes)`."""
        return [self.classify(frames_bgr[0], boxes_xyxy[0])]

    def classify(self, frame_bgr: Array, boxes_xyxy: Array) -> Array:
        """Classify the faces of a frame, `(n, classes)`."""
        if self.spec.target.kind != "onnx":
            with timed(self.samples, "crop and infer"):
                return self.engine.classify(frame_bgr, boxes_xyxy)
        with timed(self.samples, "crop"):
            crops = crop_faces(frame_bgr, boxes_xyxy, self.spec.input, self.spec.crop)
        with timed(self.samples, "infer"):
            return self.engine.infer(crops)


@contextmanager
def timed(samples: Samples, stage: str) -> Iterator[None]:
    """Add the seconds of a block to a stage's."""
    start_s = time.perf_counter()
    yield
    samples.setdefault(stage, []).append(time.perf_counter() - start_s)


def keep_times(samples: Samples, result: FrameResult) -> None:
    """Add the seconds of each stage of a frame, their sum without reading, and its final age."""
    for stage, seconds in result.times_s.items():
        samples.setdefault(stage, []).append(seconds)
    total_s = sum(result.times_s.values()) - result.times_s["read"]
    samples.setdefault("end to end", []).append(total_s)
    if (age_ms := result.ages_ms.get("write")) is not None:
        samples.setdefault("age", []).append(age_ms / 1e3)


class PacedCapture:
    """A clip's frames at the clip's own rate, as a camera delivers them."""

    def __init__(self, path: Path) -> None:
        self.capture = cv2.VideoCapture(str(path))
        self.interval_s = 1 / (self.capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS)
        self.delivered, self.ended = 0, False
        self.start_s = time.monotonic()

    def get(self, key: int) -> float:
        """Return a property of the clip."""
        return float(self.capture.get(key))

    def read(self) -> tuple[bool, Any]:
        """Return the next frame when it is due; decoding counts as part of the wait."""
        good, frame_bgr = self.capture.read()
        due_s = self.start_s + (self.delivered + 1) * self.interval_s
        time.sleep(max(due_s - time.monotonic(), 0))
        self.delivered += good
        self.ended = not good
        return good, frame_bgr

    def release(self) -> None:
        """Close the clip."""
        self.capture.release()


def clip_report(clip: Path, detector: Detector, engine: Engine) -> dict[str, Any]:
    """Run a clip twice: as fast as it goes, and at its own rate with the newest frame only.

    Faces are drawn, and written as a video and as JSON lines.

    Returns:
        For `offline` and `live` each: frames, faces, dropped, frames a second, and seconds a stage.

    Raises:
        SourceError: the clip is missing or no video.
    """
    warm_up(clip, detector, engine)
    return {"clip": clip.name, "offline": offline(clip, detector, engine),
            "live": live(clip, detector, engine)}


def opened(clip: Path) -> Source:
    """Open a video file.

    Raises:
        SourceError: it is missing, or not a video file.
    """
    source = open_source(str(clip))
    if source.is_live or not source.is_ordered:
        source.close()
        raise SourceError(f"--source {clip}: expected a video file, which can be repeated")
    return source


def warm_up(clip: Path, detector: Detector, engine: Engine) -> None:
    """Search and classify the first frames, untimed."""
    source = opened(clip)
    try:
        for frame in frames_of(source):
            if frame.index == WARM_UP_FRAMES:
                source.stop()
            classify(frame.frame_bgr, detector, engine)
    finally:
        source.close()


def offline(clip: Path, detector: Detector, engine: Engine) -> dict[str, Any]:
    """Work through every frame as fast as it goes."""
    source = opened(clip)
    try:
        with piped(source, detector, engine) as (pipeline, samples):
            pipeline.run(partial(keep_times, samples))
    finally:
        source.close()
    return told(pipeline, samples, pipeline.frames)


def live(clip: Path, detector: Detector, engine: Engine) -> dict[str, Any]:
    """Take the newest frame each time, as they arrive at the clip's own rate."""
    capture = PacedCapture(clip)
    source = LiveSource(clip.name, lambda: capture, retry_s=0, capture=capture)
    try:
        with piped(source, detector, engine) as (pipeline, samples), suppress(SourceError):
            pipeline.run(partial(keep_times, samples))  # the end of the clip is a lost source
    finally:
        source.close()
    if not capture.ended:
        raise SourceError(f"{clip} stopped delivering after {capture.delivered} frames")
    return told(pipeline, samples, capture.delivered)


@contextmanager
def piped(
    source: Source, detector: Detector, engine: Engine
) -> Iterator[tuple[Pipeline, Samples]]:
    """Give a pipeline that draws and writes into a temporary folder, and its stages' samples."""
    samples: Samples = {}
    split: Any = SplitEngine(engine, samples)
    with tempfile.TemporaryDirectory() as folder:
        video = VideoFile(Path(folder) / "annotated.mp4", source.fps)
        lines = JsonLines(str(Path(folder) / "faces.jsonl"), engine.spec.labels)
        try:
            yield Pipeline(source, detector, split, [lines], [video]), samples
        finally:
            video.close()
            lines.close()


def told(pipeline: Pipeline, samples: Samples, delivered: int) -> dict[str, Any]:
    """Return what a run did."""
    summary = pipeline.summary()
    return {
        "frames": summary.frames, "faces": summary.faces, "dropped": delivered - summary.frames,
        "frames_per_s": summary.frames_per_s,
        "stages": {stage: asdict(Statistics.of(seconds))
                   for stage, seconds in samples.items()},
    }
