"""Face detection: one interface, one file per backend, chosen by the suffix of the file."""

from __future__ import annotations

from pathlib import Path

from feredge.runtime.detect.base import Detector
from feredge.runtime.detect.weights import detector_path
from feredge.runtime.engines.base import Engine

__all__ = ["Detector", "open_detector"]


def open_detector(
    path: str | Path | None = None, size_px: int = 320, min_score: float = 0.6,
    beside: Engine | None = None, threads: int | None = None,
) -> Detector:
    """Open the face detector.

    Args:
        path: a YuNet-format ONNX file or its plan; None takes the default, fetched once where
            needed.
        size_px: the long side to which a frame is scaled before it is searched.
        min_score: faces below it are dropped.
        beside: the engine that classifies the same frames: on a GPU they share them.
        threads: how many a call may use on the CPU; None: one a core. Several threads may call a
            detector on the CPU at once.

    Raises:
        EngineError: the file is missing, damaged or not in YuNet's format.
    """
    path = detector_path(path)
    if path.suffix != ".plan":
        from feredge.runtime.detect.yunet import YuNetDetector

        return YuNetDetector(path, size_px, min_score, threads)
    from feredge.runtime.detect.tensorrt import PlanDetector

    gpu, replay = getattr(beside, "gpu", None), getattr(beside, "replay", None)
    return PlanDetector(path, size_px, min_score, gpu, replay is None or replay.enabled)
