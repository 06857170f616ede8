"""What fer-run costs over its detector and network alone, and how its memory grows.

Usage: `python -m feredge.benchmarks.pipeline --engine ENGINE --detector PATH [--json FILE]`

The clip shows the portrait that matplotlib ships, moving about in 640x480. The time of `fer-run
--jsonl` is compared, in alternating rounds, with both networks in bare onnxruntime sessions on
ready inputs, and with our own detector and engine on frames decoded and cropped beforehand. The
memory is read while the clip is looped for 10,000 frames.
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
import onnxruntime as ort

from feredge.benchmarks.records import write_results
from feredge.export.portrait import portrait_face
from feredge.runtime import Engine, open_detector, open_engine
from feredge.runtime.detector import Detector, padded_input
from feredge.runtime.detector_weights import detector_path
from feredge.runtime.faces import Array
from feredge.runtime.outputs import JsonLines
from feredge.runtime.pipeline import Pipeline
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.sources import Frame, Video, open_source
from feredge.runtime.spec import INPUT_NAME

FRAMES, ROUNDS, DETECTOR_PX = 300, 9, 320
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


def piped_s(clip: Path, detector: Detector, engine: Engine, lines: Path) -> float:
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


def cropped(frames: Sequence[Array], detector: Detector, engine: Engine) -> list[Array]:
    """Return the crops of every frame."""
    spec = engine.spec
    return [crop_faces(frame, detector.detect(frame).boxes_xyxy, spec.input, spec.crop)
            for frame in frames]


def alone_s(frames: Sequence[Array], detector: Detector, engine: Engine) -> float:
    """Return the seconds a frame of our detector and engine by themselves."""
    crops = cropped(frames, detector, engine)
    start_s = time.perf_counter()
    for frame, faces in zip(frames, crops):
        detector.detect(frame)
        engine.infer(faces)
    return (time.perf_counter() - start_s) / len(frames)


def bare_s(inputs: Sequence[tuple[Array, Array]], detector: Any, network: Any) -> float:
    """Return the seconds a frame of two bare onnxruntime sessions in its own settings.

    Their inputs are ready and their outputs are thrown away.
    """
    detector_input = detector.get_inputs()[0].name
    start_s = time.perf_counter()
    for canvas, crops in inputs:
        detector.run(None, {detector_input: canvas})
        network.run(None, {INPUT_NAME: crops})
    return (time.perf_counter() - start_s) / len(inputs)


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


def memory(clip: Path, detector: Detector, engine: Engine, lines: Path) -> dict[str, float]:
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
        bare = [ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
                for path in (detector_path(options.detector), options.engine)]
        inputs = [(padded_input(frame, DETECTOR_PX, None)[0], crops)
                  for frame, crops in zip(frames, cropped(frames, detector, engine))]
        rounds = [(piped_s(clip, detector, engine, lines), bare_s(inputs, *bare),
                   alone_s(frames, detector, engine)) for _ in range(ROUNDS)]
    piped, plain, alone = (float(np.median(column)) for column in zip(*rounds))
    print(f"{options.engine.name}: {piped * 1e3:.2f} ms a frame; bare onnxruntime sessions of both "
          f"networks {plain * 1e3:.2f} ms ({piped / plain:.3f} times), detector and engine alone "
          f"{alone * 1e3:.2f} ms ({piped / alone:.3f} times)")
    print(f"resident: {used['early_mb']:.0f} MB after {EARLY} frames, {used['late_mb']:.0f} MB "
          f"after {LOOPED}")
    write_results(options.json, {
        "engine": options.engine.name, "rounds_s": rounds, "piped_s": piped,
        "over_bare": piped / plain, "over_alone": piped / alone, **used,
    })
    return 0


if __name__ == "__main__":
    sys.exit(main())
