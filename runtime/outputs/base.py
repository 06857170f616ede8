"""The two protocols of outputs, and the record of a face that several outputs write."""

from __future__ import annotations

import re
from typing import Any, Literal, Protocol

import numpy as np

from feredge.runtime.results import Array, Faces, FrameResult

Bars = Literal["auto", "on", "off"]
# Control characters, line and paragraph separators, and those that change the direction of text.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escape(text: str) -> str:
    """Return a name with control characters and bytes that are not UTF-8 escaped: one line."""
    text = CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)
    return text.encode(errors="backslashreplace").decode()


class Output(Protocol):
    """Takes the result of every frame, in the order of the frames."""

    def write(self, result: FrameResult) -> None:
        """Take the result of one frame."""

    def close(self) -> None:
        """Complete the output. Called once, also after an error."""


class AnnotatedOutput(Protocol):
    """Takes the result of every frame together with the annotated frame."""

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Take one frame.

        Args:
            result: the result of the frame.
            annotated_bgr: `(h, w, 3)` uint8, a copy of the frame with its faces drawn; the caller
                does not change it afterwards.
        """

    def close(self) -> None:
        """Complete the output. Called once, also after an error."""


def face_record(faces: Faces, row: int, labels: tuple[str, ...]) -> dict[str, Any]:
    """Return one face with the field names of the JSON lines: px and probabilities, rounded."""
    probabilities = [round(float(p), 5) for p in faces.probabilities[row]]
    label_id, track = int(faces.label_ids[row]), int(faces.track_ids[row])
    return {
        "track": track if track >= 0 else None,
        "box": [round(float(edge), 2) for edge in faces.boxes_xyxy[row]],
        "score": round(float(faces.scores[row]), 4),
        "label": labels[label_id] if label_id >= 0 else None,
        "probability": probabilities[label_id] if label_id >= 0 else None,
        "probabilities": dict(zip(labels, probabilities)),
    } | ({} if np.isnan(faces.confidences[row]) else {
        "confidence": round(float(faces.confidences[row]), 4)})
