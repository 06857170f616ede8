"""Time per frame of fer-run compared with its detector and network alone, and its memory.

Usage: `python -m feredge.benchmarks.experiments.pipeline --engine ENGINE [--detector PATH]
[--json FILE]`

The clip shows the portrait of matplotlib, moving in 640x480. `fer-run --jsonl` analyzes as many
frames concurrently as there are cores. It is compared in alternating rounds with our detector and
engine alone, on frames that are decoded and cropped before: with all cores, each in a loop of its
own or in turn; and on frames concurrently. Memory is read over a clip of 10,000 frames.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from feredge.benchmarks.bench.timing import alternate
from feredge.benchmarks.experiments.command import Experiment, Results, add_engine_arguments
from feredge.benchmarks.experiments.processes import process_state
from feredge.export.portrait import portrait_face
from feredge.runtime.detect import Detector, DetectorOptions, open_detector
from feredge.runtime.engines import Engine, open_engine
from feredge.runtime.machine import cores
from feredge.runtime.observer import Observer
from feredge.runtime.options import EngineOptions, RunOptions
from feredge.runtime.output_options import OutputOptions
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array, FrameResult
from feredge.runtime.runner import run
from feredge.runtime.sources import frames_of, open_source

FRAMES, ROUNDS, WARM_UP_FRAMES = 300, 9, 20
EARLY, LATE = 1_000, 10_000
NAMES = ("fer-run", "detector and engine, each in a loop of its own",
         "detector and engine in turn", "detector and engine on frames concurrently")


def write_clip(path: Path, frames: int) -> None:
    """Write a clip of 640x480 with one face."""
    portrait = portrait_face()
    assert portrait is not None, "matplotlib is not installed"
    face = cv2.resize(portrait[0], (410, 480), interpolation=cv2.INTER_AREA)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (640, 480))
    for k in range(frames):
        frame = np.full((480, 640, 3), 128, np.uint8)
        left = round(115 + 115 * np.sin(k / 20))
        frame[:, left : left + 410] = face
        writer.write(frame)
    writer.release()


class FrameTimes(Observer):
    """The time at which every frame was done, and the memory after some of them."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.faces = 0
        self.resident_mb: dict[int, float] = {}

    def on_frame(self, result: FrameResult) -> None:
        """Note the time."""
        self.times_s.append(time.perf_counter())
        self.faces += len(result.faces)
        if len(self.times_s) in (EARLY, LATE):
            self.resident_mb[len(self.times_s)] = process_state()["resident_mb"]

    @property
    def per_frame_s(self) -> float:
        """Seconds per frame, without the first ones."""
        steady_s = self.times_s[WARM_UP_FRAMES:]
        return (steady_s[-1] - steady_s[0]) / (len(steady_s) - 1)


def run_clip(options: RunOptions) -> FrameTimes:
    """Run fer-run's pipeline on a clip; almost every frame must have a face."""
    times = FrameTimes()
    summary = run(options, times)
    assert times.faces >= 0.99 * summary.frames > 0
    return times


@dataclass(frozen=True)
class Networks:
    """Our detector and engine alone, with the frames `(h, w, 3)` and their crops."""

    detector: Detector
    engine: Engine
    frames: Sequence[Array]
    crops: Sequence[Array]

    def in_loops_s(self) -> float:
        """Return the seconds per frame, each in a loop of its own."""
        start_s = time.perf_counter()
        for frame in self.frames:
            self.detector.detect(frame)
        for faces in self.crops:
            self.engine.infer(faces)
        return (time.perf_counter() - start_s) / len(self.frames)

    def in_turn_s(self, concurrent_frames: int = 1) -> float:
        """Return the seconds per frame, in turn on each of several concurrent frames."""

        def analyze(frame: Array, faces: Array) -> None:
            self.detector.detect(frame)
            self.engine.infer(faces)

        with ThreadPoolExecutor(concurrent_frames) as threads:
            start_s = time.perf_counter()
            list(threads.map(analyze, self.frames, self.crops))
            return (time.perf_counter() - start_s) / len(self.frames)


def open_networks(
    options: argparse.Namespace, stack: ExitStack, frames: Sequence[Array], threads: int | None
) -> Networks:
    """Open detector and engine, and crop the faces of all frames."""
    engine = stack.enter_context(open_engine(options.engine, threads=threads))
    detector = stack.enter_context(
        open_detector(DetectorOptions.from_arguments(options), threads=threads))
    spec = engine.spec
    crops = [crop_faces(frame, detector.detect(frame).boxes_xyxy, spec.input, spec.crop)
             for frame in frames]
    return Networks(detector, engine, frames, crops)


def measure(options: argparse.Namespace) -> Results:
    """Read the memory, then time in alternating rounds."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        write_clip(short, FRAMES)
        write_clip(long, LATE)

        def run_options(clip: Path) -> RunOptions:
            return RunOptions((str(clip),), EngineOptions(options.engine),
                              detector=DetectorOptions.from_arguments(options),
                              outputs=OutputOptions(jsonl=f"{folder}/lines.jsonl"))

        # Memory first: the timing below keeps every frame of the clip.
        resident_mb = run_clip(run_options(long)).resident_mb
        frames = [frame.frame_bgr for frame in frames_of(open_source(str(short)))]
        single, shared = (open_networks(options, stack, frames, threads) for threads in (1, None))
        measurements: list[Callable[[], float]] = [
            lambda: run_clip(run_options(short)).per_frame_s, shared.in_loops_s, shared.in_turn_s,
            partial(single.in_turn_s, cores()),
        ]
        samples = alternate(measurements, least_rounds=ROUNDS)
    return {
        "engine": options.engine.name, "rounds_s": list(zip(*samples)),
        "seconds": dict(zip(NAMES, map(float, np.median(samples, axis=1)))),
        "early_mb": resident_mb[EARLY], "late_mb": resident_mb[LATE],
    }


def describe(results: Results) -> str:
    """Return the results as text."""
    seconds = results["seconds"]
    lines = [f"{name}: {value * 1e3:.2f} ms per frame; fer-run takes "
             f"{seconds[NAMES[0]] / value:.3f} times that" for name, value in seconds.items()]
    return "\n".join([*lines, f"resident: {results['early_mb']:.0f} MB after {EARLY} frames, "
                              f"{results['late_mb']:.0f} MB after {LATE}"])


EXPERIMENT = Experiment(__doc__, add_engine_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
