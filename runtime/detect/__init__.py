"""Face detection: one interface, one file per backend, selected by the suffix of the file."""

from __future__ import annotations

from pathlib import Path

from feredge.runtime.detect.base import Detector
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.detect.sizes import DetectionSize
from feredge.runtime.detect.weights import detector_path
from feredge.runtime.engines.base import Engine

__all__ = ["Detector", "DetectorOptions", "open_detector"]


def open_detector(
    options: DetectorOptions | str | Path | None = None, beside: Engine | None = None,
    threads: int | None = None, frames_per_s: float | None = None,
) -> Detector:
    """Open a face detector.

    Args:
        options: the options, or the path alone; None is the bundled detector with the defaults.
        beside: the engine that classifies the same frames: on a GPU the two share them.
        threads: CPU threads per call; None: one per core. Several threads may call a detector on
            the CPU concurrently.
        frames_per_s: of a live source; with the size `auto` the detector keeps to this rate.

    Raises:
        EngineError: the file is missing, damaged or not in YuNet's format.
    """
    if not isinstance(options, DetectorOptions):
        options = DetectorOptions(options)
    path = detector_path(options.path)
    if path.suffix != ".plan":
        from feredge.runtime.detect.yunet import YuNetDetector

        return YuNetDetector(path, DetectionSize(options, frames_per_s=frames_per_s), threads)
    from feredge.runtime.detect.tensorrt import PlanDetector

    frames = None if beside is None else beside.frames
    return PlanDetector(path, DetectionSize(options, frames_per_s=frames_per_s), frames)
