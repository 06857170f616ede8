"""Answers before times: how far each candidate is from the first, on faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from feredge.benchmarks.bench.candidates import Candidate
from feredge.export.portrait import portrait_face
from feredge.runtime.errors import EngineError
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array
from feredge.runtime.spec import ModelSpec

CROPS, BATCH = 64, 8
FLOAT_TOLERANCE = 1e-2  # FP16's; FP32 runtimes are within 1e-5 of each other


@dataclass(frozen=True)
class Difference:
    """How a candidate answers `faces` crops, against the first.

    `same_label` is a share, `mean_change` and `largest_change` are of a probability. `recorded` is
    what the export measured against FP32 on real faces, where it did.
    """

    faces: int
    same_label: float
    mean_change: float
    largest_change: float
    recorded: Any = None


def face_crops(spec: ModelSpec) -> tuple[Array, str]:
    """Return 64 crops for a network, and what they show.

    One real face, each time in another box, light and half of them mirrored; seeded noise where
    matplotlib, which ships the portrait, is not installed.
    """
    found, rng = portrait_face(), np.random.default_rng(0)
    if found is None:
        side = spec.input.side
        return rng.random((CROPS, 3, side, side), np.float32), "seeded noise"
    picture, box = found
    moved = box + rng.normal(0, 12, (CROPS, 4))
    crops = np.concatenate([crop_faces(relit(picture, light), one[None], spec.input, spec.crop)
                            for one, light in zip(moved, rng.uniform(0.4, 1.4, CROPS))])
    crops[::2] = crops[::2, :, :, ::-1].copy()
    return crops, "a portrait, moved, mirrored and relit"


def relit(picture: Array, light: float) -> Array:
    """Return a picture brighter or darker."""
    return np.clip(picture * light, 0, 255).astype(np.uint8)


def differences(candidates: Sequence[Candidate], crops: Array) -> list[Difference]:
    """Compare every candidate's answers with the first one's.

    Raises:
        EngineError: one that is not INT8 answers something else: it is another network.
    """
    expected = answered(candidates[0], crops)
    found = [difference(candidate, answered(candidate, crops), expected)
             for candidate in candidates]
    for candidate, one in zip(candidates, found):
        both_float = "int8" not in (candidate.precision, candidates[0].precision)
        if not np.isfinite(one.largest_change) or (
                both_float and one.largest_change > FLOAT_TOLERANCE):
            raise EngineError(f"{candidate.name} answers otherwise than {candidates[0].name}: a "
                              f"probability differs by {one.largest_change:.3f}, expected at most "
                              f"{FLOAT_TOLERANCE}; they are not the same network")
    return found


def answered(candidate: Candidate, crops: Array) -> Array:
    """Return a candidate's answers to all crops, `(n, classes)`."""
    parts = [candidate.infer(crops[start : start + BATCH])
             for start in range(0, len(crops), BATCH)]
    return np.concatenate(parts)


def difference(candidate: Candidate, got: Array, expected: Array) -> Difference:
    """Compare answers."""
    change = np.abs(got - expected)
    same = got.argmax(axis=1) == expected.argmax(axis=1)
    return Difference(len(got), float(same.mean()), float(change.mean()), float(change.max()),
                      candidate.recorded)
