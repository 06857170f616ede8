"""The whole pipeline on a clip: every stage, end to end, dropped frames, and the age of results."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from feredge.benchmarks.bench.options import BenchOptions
from feredge.benchmarks.bench.timing import Statistics
from feredge.runtime.detect import open_detector
from feredge.runtime.engines import Engine, open_engine
from feredge.runtime.errors import SourceError
from feredge.runtime.observer import Observer
from feredge.runtime.options import EngineOptions, RunOptions
from feredge.runtime.output_options import OutputOptions
from feredge.runtime.outputs.text import JsonLines
from feredge.runtime.outputs.video import VideoFile
from feredge.runtime.pipeline import Pipeline
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array, FrameResult
from feredge.runtime.runner import run
from feredge.runtime.sources import Source
from feredge.runtime.sources.base import DEFAULT_FPS
from feredge.runtime.sources.live import LiveSource
from feredge.runtime.timing import Summary


class StageSamples(Observer):
    """Collects the seconds of every stage, their sum without reading, and the age of live frames.

    On a CPU the classification is divided into crop and inference, too; the crops of a plan never
    leave the GPU.
    """

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = {}

    def on_source(self, source: Source) -> None:
        """Refuse a source that is not a video file.

        Raises:
            SourceError: it cannot be repeated at its own frame rate.
        """
        if source.is_live or not source.is_ordered:
            raise SourceError(f"--source {source.name}: expected a video file, which can be "
                              "repeated")

    def on_start(self, pipeline: Pipeline) -> None:
        """Warm up both networks, untimed, and time crop and inference from now on."""
        side = pipeline.engine.spec.input.side
        pipeline.detector.detect(np.zeros((480, 640, 3), np.uint8))
        pipeline.engine.infer(np.zeros((1, 3, side, side), np.float32))
        if pipeline.engine.spec.target.kind == "onnx":
            pipeline.engine = SplitEngine(pipeline.engine, self)

    def on_frame(self, result: FrameResult) -> None:
        """Add the stages of a frame."""
        for stage, seconds in result.times_s.items():
            self.add(stage, seconds)
        self.add("end to end", sum(result.times_s.values()) - result.times_s.get("read", 0.0))
        if (age_ms := result.ages_ms.get("write")) is not None:
            self.add("age", age_ms / 1e3)

    def add(self, stage: str, seconds: float) -> None:
        """Add one sample."""
        self.samples.setdefault(stage, []).append(seconds)

    def row(self, summary: Summary, delivered: int) -> dict[str, Any]:
        """Return the report of a run: totals, and the statistics of every stage."""
        return {
            "frames": summary.frames, "faces": summary.faces,
            "dropped": delivered - summary.frames, "frames_per_s": summary.frames_per_s,
            "stages": {stage: asdict(Statistics.of(seconds))
                       for stage, seconds in self.samples.items()},
        }


class SplitEngine(Engine):
    """An engine on the CPU whose crop and inference are timed separately."""

    def __init__(self, engine: Engine, times: StageSamples) -> None:
        self.engine, self.times = engine, times
        self.spec, self.max_batch, self.device = engine.spec, engine.max_batch, engine.device

    def _classify(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        start_s = time.perf_counter()
        crops = np.concatenate([crop_faces(frame_bgr, boxes_xyxy, self.spec.input, self.spec.crop)
                                for frame_bgr, boxes_xyxy in parts])
        cropped_s = time.perf_counter()
        probabilities = self.engine.infer(crops)
        self.times.add("crop", cropped_s - start_s)
        self.times.add("infer", time.perf_counter() - cropped_s)
        return probabilities

    def _infer(self, crops: Array) -> Array:
        return self.engine.infer(crops)

    def close(self) -> None:
        """Leave the engine open: it belongs to the run."""


class PacedCapture:
    """The frames of a clip at its own frame rate, as a camera delivers them."""

    def __init__(self, path: Path) -> None:
        self.capture = cv2.VideoCapture(str(path))
        self.interval_s = 1 / (self.capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS)
        self.delivered, self.ended = 0, False
        self.start_s = time.monotonic()

    def get(self, key: int) -> float:
        """Return a property of the clip."""
        return float(self.capture.get(key))

    def read(self) -> tuple[bool, Any]:
        """Return the next frame at its time; decoding counts as part of the wait."""
        good, frame_bgr = self.capture.read()
        due_s = self.start_s + (self.delivered + 1) * self.interval_s
        time.sleep(max(due_s - time.monotonic(), 0))
        self.delivered += good
        self.ended = not good
        return good, frame_bgr

    def release(self) -> None:
        """Close the clip."""
        self.capture.release()


def clip_report(options: BenchOptions, clip: Path) -> dict[str, Any]:
    """Run a clip twice: at full speed, and at its own frame rate with the newest frame only.

    Faces are drawn, and written as a video and as JSON lines.

    Args:
        options: engine and detector.
        clip: a video file.

    Returns:
        For `offline` and `live` each: frames, faces, dropped, frames per second, and the statistics
        of every stage in seconds.

    Raises:
        SourceError: the clip is missing or no video.
    """
    return {"clip": clip.name, "offline": run_offline(options, clip),
            "live": run_live(options, clip)}


def run_offline(options: BenchOptions, clip: Path) -> dict[str, Any]:
    """Process every frame at full speed, as fer-run does."""
    observer = StageSamples()
    with tempfile.TemporaryDirectory() as folder:
        summary = run(RunOptions(
            (str(clip),), EngineOptions(options.engines[0], allow_random_weights=True),
            detector=options.detector,
            outputs=OutputOptions(f"{folder}/annotated.mp4", f"{folder}/faces.jsonl"),
        ), observer)
    return observer.row(summary, summary.frames)


def run_live(options: BenchOptions, clip: Path) -> dict[str, Any]:
    """Process the newest frame each time, with the frames arriving at the clip's frame rate."""
    observer, capture = StageSamples(), PacedCapture(clip)
    source = LiveSource(clip.name, lambda: capture, retry_s=0, capture=capture)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.callback(source.close)
        engine = stack.enter_context(open_engine(options.engines[0]))
        detector = stack.enter_context(open_detector(options.detector, engine))
        lines = JsonLines(f"{folder}/faces.jsonl", engine.spec.labels)
        video = VideoFile(Path(folder) / "annotated.mp4", source.fps)
        stack.callback(lines.close)
        stack.callback(video.close)
        pipeline = Pipeline(source, detector, engine, [lines], [video])
        observer.on_start(pipeline)
        with suppress(SourceError):  # the end of the clip is a lost source
            pipeline.run(observer.on_frame)
    if not capture.ended:
        raise SourceError(f"{clip} stopped delivering after {capture.delivered} frames")
    return observer.row(pipeline.summary(), capture.delivered)
