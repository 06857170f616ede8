"""What fer-run costs over its detector and network alone, and how its memory grows.

Usage: `python -m feredge.benchmarks.pipeline --engine ENGINE --detector PATH [--json FILE]`

The clip shows the portrait that matplotlib ships, moving about in 640x480. The time of `fer-run
--jsonl` is compared with detector and network on the same frames, decoded and cropped beforehand,
in alternating rounds; the memory is read while the clip is looped for 10,000 frames.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from feredge.benchmarks.records import write_results
from feredge.export.portrait import portrait_face
from feredge.runtime import Engine, Faces, open_detector, open_engine
from feredge.runtime.detector import YuNetDetector
from feredge.runtime.faces import Array
from feredge.runtime.outputs import JsonLines
from feredge.runtime.pipeline import Pipeline
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.sources import Frame, Video, open_source

FRAMES, ROUNDS = 300, 7
LOOPED, EARLY = 10_000, 1_000


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


def piped_s(clip: Path, detector: YuNetDetector, engine: Engine, lines: Path) -> float:
    """Return the seconds a frame of the whole pipeline that writes JSON lines."""
    source = open_source(str(clip))
    output = JsonLines(str(lines), engine.spec.labels)
    pipeline = Pipeline(source, detector, engine, [output])
    start_s = time.perf_counter()
    pipeline.run()
    seconds = time.perf_counter() - start_s
    output.close()
    source.close()
    assert pipeline.frames == FRAMES and pipeline.faces >= 0.99 * FRAMES
    return seconds / FRAMES


def alone_s(frames: Sequence[Array], detector: YuNetDetector, engine: Engine) -> float:
    """Return the seconds a frame of the detector and the network by themselves."""
    found: list[Faces] = [detector.detect(frame) for frame in frames]
    spec = engine.spec
    crops = [crop_faces(frame, faces.boxes_xyxy, spec.input, spec.crop)
             for frame, faces in zip(frames, found)]
    start_s = time.perf_counter()
    for frame, faces in zip(frames, crops):
        detector.detect(frame)
        engine.infer(faces)
    return (time.perf_counter() - start_s) / len(frames)


class Looped:
    """A source that repeats a clip, opened anew each time."""

    live = False
    expected = 0

    def __init__(self, clip: Path) -> None:
        self.clip = clip

    def frames(self) -> Iterator[Frame]:
        """Yield the clip's frames for ever."""
        while True:
            source = open_source(str(self.clip))
            assert isinstance(source, Video)
            yield from source.frames()
            source.close()


def resident_mb() -> float:
    """Return the process's resident memory, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(clip: Path, detector: YuNetDetector, engine: Engine, lines: Path) -> dict[str, float]:
    """Return the resident megabytes after 1,000 and after 10,000 frames."""
    output = JsonLines(str(lines), engine.spec.labels)
    source: Any = Looped(clip)
    pipeline = Pipeline(source, detector, engine, [output])
    early_mb = 0.0
    for frame in source.frames():
        pipeline.step(frame)
        if pipeline.frames == EARLY:
            early_mb = resident_mb()
        if pipeline.frames == LOOPED:
            break
    output.close()
    return {"early_mb": early_mb, "late_mb": resident_mb()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", required=True, type=Path)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, open_engine(options.engine) as engine, \
            open_detector(options.detector) as detector:
        clip, lines = Path(folder) / "clip.mp4", Path(folder) / "lines.jsonl"
        write_clip(clip)
        # Memory first: the timing below keeps every frame of the clip.
        used = memory(clip, detector, engine, lines)
        frames = [frame.frame_bgr for frame in open_source(str(clip)).frames()]
        pairs = [(piped_s(clip, detector, engine, lines), alone_s(frames, detector, engine))
                 for _ in range(ROUNDS)]
    piped, alone = (float(np.median(column)) for column in zip(*pairs))
    print(f"{options.engine.name}: {piped * 1e3:.2f} ms a frame, detector and network alone "
          f"{alone * 1e3:.2f} ms: {piped / alone:.3f} times")
    print(f"resident: {used['early_mb']:.0f} MB after {EARLY} frames, {used['late_mb']:.0f} MB "
          f"after {LOOPED}")
    write_results(options.json, {
        "engine": options.engine.name, "piped_s": [pair[0] for pair in pairs],
        "alone_s": [pair[1] for pair in pairs], "ratio": piped / alone, **used,
    })
    return 0


if __name__ == "__main__":
    sys.exit(main())
