"""facial-emotion-recognition (PyPI): MTCNN, and the network in its package, in PyTorch."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

Label = Callable[[Any], "str | None"]


def opened(request: dict[str, Any]) -> tuple[Label, Label]:
    """Open it; its weights, saved on a GPU, are mapped to the CPU, where it fails by itself."""
    cv2 = importlib.import_module("cv2")
    torch: Any = importlib.import_module("torch")
    torch.load = functools.partial(torch.load, map_location="cpu")
    package = importlib.import_module("facial_emotion_recognition")
    recogniser = package.EmotionRecognition(device="cpu")

    def crop_label(picture: Any) -> str | None:
        return str(recogniser._predict(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)))

    def scene_label(picture: Any) -> str | None:
        # What its recognise_emotion does before it draws; that returns no labels.
        boxes, _ = recogniser.mtcnn.detect(picture)
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        labels = []
        for box in [] if boxes is None else boxes:
            x0, y0, x1, y1 = (max(round(float(edge)), 0) for edge in box)
            labels.append(str(recogniser._predict(grey[y0:y1, x0:x1])))
        return labels[0] if labels else None

    return scene_label, crop_label
