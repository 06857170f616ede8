"""What fer-run costs over its detector and network alone, and how its memory grows.

Usage: `python -m feredge.benchmarks.experiments.pipeline --engine ENGINE --detector PATH [--json
FILE]`

The clip shows the portrait that matplotlib ships, moving about in 640x480. The time of `fer-run
--jsonl`, which works on as many frames side by side as there are cores, is compared in alternating
rounds with our detector and engine by themselves, on frames decoded and cropped beforehand: with
all cores, each in a loop of its own or in turn; and on frames side by side, too. The memory is read
while the clip is looped for 10,000 frames.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from feredge.benchmarks.eval.records import write_results
from feredge.export.portrait import portrait_face
from feredge.runtime import Engine, open_detector, open_engine
from feredge.runtime.detect.base import Detector
from feredge.runtime.machine import cores
from feredge.runtime.outputs.text import JsonLines
from feredge.runtime.pipeline import Pipeline, PipelineOptions
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array, Frame
from feredge.runtime.sources import frames_of, open_source

FRAMES, ROUNDS = 300, 9
LOOPED, EARLY = 10_000, 1_000
NAMES = ("fer-run", "detector and engine, each in a loop of its own",
         "detector and engine in turn", "detector and engine on frames side by side, too")


def write_clip(path: Path) -> None:
    """Write the clip: one face, 300 frames of 640x480."""
    portrait = portrait_face()
    assert portrait is not None, "matplotlib is not installed"
    face = cv2.resize(portrait[0], (410, 480), interpolation=cv2.INTER_AREA)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (640, 480))
    for k in range(FRAMES):
        frame = np.full((480, 640, 3), 128, np.uint8)
        left = round(115 + 115 * np.sin(k / 20))
        frame[:, left : left + 410] = face
        writer.write(frame)
    writer.release()


def piped_s(clip: Path, detector: Detector, engine: Engine, lines: Path) -> float:
    """Return the seconds a frame of the whole pipeline that writes JSON lines."""
    source = open_source(str(clip))
    output = JsonLines(str(lines), engine.spec.labels)
    options = PipelineOptions(concurrent_frames=cores())
    pipeline = Pipeline(source, detector, engine, [output], options=options)
    start_s = time.perf_counter()
    pipeline.run()
    seconds = time.perf_counter() - start_s
    output.close()
    source.close()
    assert pipeline.frames == FRAMES and pipeline.faces >= 0.99 * FRAMES
    return seconds / FRAMES


def cropped(frames: Sequence[Array], detector: Detector, engine: Engine) -> list[Array]:
    """Return the crops of every frame."""
    spec = engine.spec
    return [crop_faces(frame, detector.detect(frame).boxes_xyxy, spec.input, spec.crop)
            for frame in frames]


def in_loops_s(
    frames: Sequence[Array], crops: Sequence[Array], detector: Detector, engine: Engine
) -> float:
    """Return the seconds a frame of our detector and engine, each in a loop of its own."""
    start_s = time.perf_counter()
    for frame in frames:
        detector.detect(frame)
    for faces in crops:
        engine.infer(faces)
    return (time.perf_counter() - start_s) / len(frames)


def in_turn_s(
    frames: Sequence[Array], crops: Sequence[Array], detector: Detector, engine: Engine,
    at_once: int = 1,
) -> float:
    """Return the seconds a frame of our detector and engine in turn, on frames side by side."""

    def answer(frame: Array, faces: Array) -> None:
        detector.detect(frame)
        engine.infer(faces)

    with ThreadPoolExecutor(at_once) as threads:
        start_s = time.perf_counter()
        list(threads.map(answer, frames, crops))
        return (time.perf_counter() - start_s) / len(frames)


class Looped:
    """A source that repeats a clip, opened anew each time, and reads the memory as it goes."""

    is_live = stopped = False
    is_ordered = True

    def __init__(self, clip: Path) -> None:
        self.clip = clip
        self.resident_mb: dict[int, float] = {}

    problems = ()

    def batches(self) -> Iterator[list[Frame]]:
        """Yield the clip's frames, LOOPED of them."""
        delivered = 0
        while True:
            source = open_source(str(self.clip))
            for frame in frames_of(source):
                yield [frame]
                delivered += 1
                if delivered in (EARLY, LOOPED):
                    self.resident_mb[delivered] = resident_mb()
                if delivered == LOOPED:
                    return
            source.close()


def resident_mb() -> float:
    """Return the process's resident memory, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(clip: Path, detector: Detector, engine: Engine, lines: Path) -> dict[str, float]:
    """Return the resident megabytes after 1,000 and after 10,000 frames."""
    output = JsonLines(str(lines), engine.spec.labels)
    source: Any = Looped(clip)
    options = PipelineOptions(concurrent_frames=cores())
    Pipeline(source, detector, engine, [output], options=options).run()
    output.close()
    return {"early_mb": source.resident_mb[EARLY], "late_mb": source.resident_mb[LOOPED]}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", required=True, type=Path)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        clip, lines = Path(folder) / "clip.mp4", Path(folder) / "lines.jsonl"
        write_clip(clip)
        single, shared = ((stack.enter_context(open_detector(options.detector, threads=threads)),
                           stack.enter_context(open_engine(options.engine, threads=threads)))
                          for threads in (1, None))
        # Memory first: the timing below keeps every frame of the clip.
        used = memory(clip, *single, lines)
        frames = [frame.frame_bgr for frame in frames_of(open_source(str(clip)))]
        crops = cropped(frames, *shared)
        rounds = [(piped_s(clip, *single, lines), in_loops_s(frames, crops, *shared),
                   in_turn_s(frames, crops, *shared), in_turn_s(frames, crops, *single, cores()))
                  for _ in range(ROUNDS)]
    seconds = dict(zip(NAMES, (float(np.median(column)) for column in zip(*rounds))))
    for name, value in seconds.items():
        print(f"{name}: {value * 1e3:.2f} ms a frame; "
              f"fer-run takes {seconds[NAMES[0]] / value:.3f} times that")
    print(f"resident: {used['early_mb']:.0f} MB after {EARLY} frames, {used['late_mb']:.0f} MB "
          f"after {LOOPED}")
    write_results(options.json, {
        "engine": options.engine.name, "rounds_s": rounds, "seconds": seconds, **used,
    })
    return 0


if __name__ == "__main__":
    sys.exit(main())
