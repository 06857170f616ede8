"""facial-emotion-recognition (PyPI): MTCNN, and the network in its package, in PyTorch."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

Label = Callable[[Any], "str | None"]


def open_peer(request: dict[str, Any]) -> tuple[Label, Label]:
    """Open it; its weights were saved on a GPU, and it does not map them to the CPU itself."""
    cv2 = importlib.import_module("cv2")
    torch: Any = importlib.import_module("torch")
    torch.load = functools.partial(torch.load, map_location="cpu")
    package = importlib.import_module("facial_emotion_recognition")
    recognizer = package.EmotionRecognition(device="cpu")

    def crop_label(picture: Any) -> str | None:
        return str(recognizer._predict(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)))

    def scene_label(picture: Any) -> str | None:
        # The steps of its recognise_emotion before it draws, since that returns no labels.
        boxes, _ = recognizer.mtcnn.detect(picture)
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        labels = []
        for box in [] if boxes is None else boxes:
            x0, y0, x1, y1 = (max(round(float(edge)), 0) for edge in box)
            labels.append(str(recognizer._predict(grey[y0:y1, x0:x1])))
        return labels[0] if labels else None

    return scene_label, crop_label
