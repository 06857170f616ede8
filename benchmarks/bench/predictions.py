"""Predictions before times: how far each candidate is from the first, on faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from feredge.benchmarks.bench.candidates import Candidate
from feredge.calibration.quality.agreement import agreement
from feredge.export.portrait import portrait_face
from feredge.runtime.errors import EngineError
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array
from feredge.runtime.spec import ModelSpec

CROPS, BATCH = 64, 8
FLOAT_TOLERANCE = 1e-2  # FP16's; FP32 runtimes are within 1e-5 of each other


def face_crops(spec: ModelSpec) -> tuple[Array, str]:
    """Return 64 crops for a network, `(64, 3, side, side)` float32, and what they show.

    The crops are of one real face, with random boxes and brightness, half of them mirrored; or
    seeded noise where matplotlib, which ships the portrait, is not installed.
    """
    portrait, rng = portrait_face(), np.random.default_rng(0)
    if portrait is None:
        side = spec.input.side
        return rng.random((CROPS, 3, side, side), np.float32), "seeded noise"
    picture, box = portrait
    boxes = box + rng.normal(0, 12, (CROPS, 4))
    crops = np.concatenate([
        crop_faces(change_brightness(picture, light), one[None], spec.input, spec.crop)
        for one, light in zip(boxes, rng.uniform(0.4, 1.4, CROPS))
    ])
    crops[::2] = crops[::2, :, :, ::-1].copy()
    return crops, "a portrait, moved, mirrored and relit"


def change_brightness(picture: Array, factor: float) -> Array:
    """Return a `(h, w, 3)` uint8 picture multiplied by a factor, clipped."""
    return np.clip(picture * factor, 0, 255).astype(np.uint8)


def compare_predictions(candidates: Sequence[Candidate], crops: Array) -> list[dict[str, Any]]:
    """Compare every candidate's predictions with the first one's.

    Args:
        candidates: the first is the reference.
        crops: `(n, 3, side, side)` float32.

    Returns:
        For each: `faces`, `same_label` (a share), `mean_change` and `largest_change` of a
        probability, and `recorded`: what the export measured on real faces, if it did.

    Raises:
        EngineError: a network that is not INT8 predicts something else: it is another network.
    """
    expected = predict(candidates[0], crops)
    return [difference(candidate, candidates[0], predict(candidate, crops), expected)
            for candidate in candidates]


def predict(candidate: Candidate, crops: Array) -> Array:
    """Return a candidate's probabilities of all crops, `(n, classes)`."""
    parts = [candidate.infer(crops[start : start + BATCH])
             for start in range(0, len(crops), BATCH)]
    return np.concatenate(parts)


def difference(
    candidate: Candidate, first: Candidate, predictions: Array, expected: Array
) -> dict[str, Any]:
    """Compare the `(n, classes)` probabilities of a candidate with the first one's."""
    found = agreement(expected, predictions)
    both_float = "int8" not in (candidate.precision, first.precision)
    if not np.isfinite(found.largest_change) or (
            both_float and found.largest_change > FLOAT_TOLERANCE):
        raise EngineError(f"the predictions of {candidate.name} differ from those of {first.name}: "
                          f"a probability differs by {found.largest_change:.3f}, expected at most "
                          f"{FLOAT_TOLERANCE}; they are not the same network")
    return {"faces": found.faces, "same_label": found.top1, "mean_change": found.mean_change,
            "largest_change": found.largest_change, "recorded": candidate.recorded}
