"""The quality of each face, and the confidence that its label is right.

The confidence is a logistic model of the probabilities and the quality of a face, which the
ModelSpec holds. Without one, it is the probability of the most probable class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from feredge.runtime.results import Array, Faces
from feredge.runtime.spec import CONFIDENCE_FEATURES, ConfidenceSpec

SHARPNESS_PX = 64  # side to which a face is scaled first, so that its size has no influence
MIN_PROBABILITY = 1e-4  # limits the log odds of certain predictions
QUALITY_FIELDS = ("size_px", "sharpness", "roll_deg", "yaw")  # names in files, beside `score`


@dataclass(frozen=True)
class FaceQuality:
    """The quality of faces: parallel arrays, one row per face.

    Attributes:
        scores: `(n,)`, the detector's score from 0 to 1.
        sizes_px: `(n,)`, the longer side of the box.
        sharpness: `(n,)`, the variance of the Laplacian over the variance of the gray face at
            64x64 px; independent of contrast and size.
        roll_deg: `(n,)`, the angle of the line between the eyes, from -180 to 180.
        yaw: `(n,)`, the offset of the nose from the middle of the eyes, along their line, in
            distances of the eyes: 0 for a frontal face, about 0.5 for a profile, signed.
    """

    scores: Array
    sizes_px: Array
    sharpness: Array
    roll_deg: Array
    yaw: Array


def measure_quality(frame_bgr: Array, faces: Faces) -> FaceQuality:
    """Measure the quality of the faces of a frame.

    Args:
        frame_bgr: `(h, w, 3)` uint8.
        faces: detected faces whose boxes overlap the frame.
    """
    return quality_of(with_sharpness(frame_bgr, faces))


def with_sharpness(frame_bgr: Array, faces: Faces) -> Faces:
    """Return the faces with their sharpness, which is measured once.

    Args:
        frame_bgr: `(h, w, 3)` uint8.
        faces: detected faces whose boxes overlap the frame.
    """
    if not np.isnan(faces.sharpness).any():
        return faces
    measured = [measure_sharpness(frame_bgr, box) for box in faces.boxes_xyxy]
    return replace(faces, sharpness=np.array(measured, np.float32))


def quality_of(faces: Faces) -> FaceQuality:
    """Return the quality of faces whose sharpness was measured."""
    right_eye, left_eye, nose = faces.landmarks.astype(np.float64).transpose(1, 0, 2)[:3]
    across = left_eye - right_eye
    distance = np.maximum(np.hypot(*across.T), 1e-6)
    offset = ((nose - (left_eye + right_eye) / 2) * across).sum(axis=1) / distance**2
    sides = faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]
    return FaceQuality(
        faces.scores, sides.max(axis=1, initial=0),
        faces.sharpness.astype(np.float64),
        np.degrees(np.arctan2(across[:, 1], across[:, 0])), offset.clip(-2, 2),
    )


def measure_sharpness(frame_bgr: Array, box_xyxy: Array) -> float:
    """Return the sharpness of one face; see `FaceQuality`.

    Args:
        frame_bgr: `(h, w, 3)` uint8.
        box_xyxy: `(4,)`, overlaps the frame.
    """
    limits = np.array([*frame_bgr.shape[1::-1]] * 2)
    x0, y0, x1, y1 = np.clip(np.rint(box_xyxy), 0, limits).astype(int)
    x0, y0 = min(x0, limits[0] - 1), min(y0, limits[1] - 1)
    area = frame_bgr[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    small = cv2.resize(area, (SHARPNESS_PX, SHARPNESS_PX), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return float(cv2.Laplacian(gray, cv2.CV_32F).var() / max(float(gray.var()), 1.0))


def confidence_features(probabilities: Array, quality: FaceQuality) -> Array:
    """Return the features of the confidence model, `(n, features)` float64.

    The columns are `CONFIDENCE_FEATURES`: the log odds of the most probable class, the logarithm of
    its ratio to the second, the detector's score, the logarithms of size and sharpness, and the
    absolute roll (in units of 45 degrees) and yaw.

    Args:
        probabilities: `(n, classes)`.
        quality: of the same faces.
    """
    ordered = np.sort(probabilities.astype(np.float64), axis=1)[:, ::-1]
    first, second = ordered[:, :2].clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY).T
    columns = [np.log(first / (1 - first)), np.log(first / second), quality.scores,
               np.log(np.maximum(quality.sizes_px, 1)), np.log(np.maximum(quality.sharpness, 1e-3)),
               np.abs(quality.roll_deg) / 45, np.abs(quality.yaw)]
    return np.stack(columns, axis=1)


def predict_confidence(frame_bgr: Array, faces: Faces, model: ConfidenceSpec | None) -> Array:
    """Return the confidence that each label is right, `(n,)` float32 from 0 to 1.

    Args:
        frame_bgr: `(h, w, 3)` uint8.
        faces: classified.
        model: of the network's ModelSpec; None: the probability of the most probable class.
    """
    if model is None or not len(faces):
        return np.asarray(faces.probabilities.max(axis=1, initial=0), np.float32)
    return apply_model(faces.probabilities, measure_quality(frame_bgr, faces), model)


def apply_model(probabilities: Array, quality: FaceQuality, model: ConfidenceSpec) -> Array:
    """Return the confidence of faces whose quality is measured, `(n,)` float32.

    Args:
        probabilities: `(n, classes)`.
        quality: of the same faces.
        model: of the network's ModelSpec.
    """
    features = confidence_features(probabilities, quality)
    weights = np.array([model.weights.get(name, 0.0) for name in CONFIDENCE_FEATURES])
    log_odds = features @ weights + model.bias
    return np.asarray(1 / (1 + np.exp(-log_odds.clip(-50, 50))), np.float32)


def mark_unsure(
    frame_bgr: Array, faces: Faces, model: ConfidenceSpec | None, min_confidence: float
) -> Faces:
    """Return the faces with their confidence, without a label where it is below a minimum.

    Args:
        frame_bgr: `(h, w, 3)` uint8.
        faces: classified.
        model: see `predict_confidence`.
        min_confidence: faces below it are unsure: their `label_ids` are -1.
    """
    confidences = predict_confidence(frame_bgr, faces, model)
    label_ids = np.where(confidences >= min_confidence, faces.label_ids, -1)
    return replace(faces, confidences=confidences, label_ids=label_ids)
