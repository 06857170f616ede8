"""feredge: a face detector and an exported network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Label = Callable[[Any], "str | None"]


def open_peer(request: dict[str, Any]) -> tuple[Label, Label]:
    """Open the request's engine and detector."""
    from feredge.runtime import classify, open_detector, open_engine
    from feredge.runtime.preprocess.geometry import whole_picture
    from feredge.runtime.preprocess.opencv import crop_faces

    engine, detector = open_engine(request["engine"]), open_detector(request["detector"])

    def scene_label(picture: Any) -> str | None:
        faces = classify(picture, detector, engine)
        return engine.spec.labels[int(faces.probabilities[0].argmax())] if len(faces) else None

    def crop_label(picture: Any) -> str | None:
        box, whole = whole_picture(picture.shape)
        crops = crop_faces(picture, box, engine.spec.input, whole)
        return engine.spec.labels[int(engine.infer(crops)[0].argmax())]

    return scene_label, crop_label
