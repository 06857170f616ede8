"""The landmarks and the quality of a face, as the text outputs write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from feredge.runtime.quality import QUALITY_FIELDS, quality_of
from feredge.runtime.results import Faces

LANDMARKS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
LANDMARK_COLUMNS = (*(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"), *QUALITY_FIELDS)


def landmark_records(faces: Faces) -> list[dict[str, Any]]:
    """Return the landmarks, size, sharpness, roll and yaw of each face, rounded.

    They are empty where the sharpness was not measured; see `PipelineOptions.landmarks`.
    """
    if np.isnan(faces.sharpness).any():
        return [{} for _ in range(len(faces))]
    quality = quality_of(faces)
    return [
        {"landmarks": {name: [round(float(value), 2) for value in point]
                       for name, point in zip(LANDMARKS, points)},
         "size_px": round(float(quality.sizes_px[k]), 2),
         "sharpness": round(float(quality.sharpness[k]), 4),
         "roll_deg": round(float(quality.roll_deg[k]), 2), "yaw": round(float(quality.yaw[k]), 4)}
        for k, points in enumerate(faces.landmarks)
    ]


def landmark_cells(record: dict[str, Any]) -> list[float]:
    """Return the cells of `LANDMARK_COLUMNS`, from a record of `landmark_records`."""
    points = [value for point in record["landmarks"].values() for value in point]
    return [*points, *(record[name] for name in QUALITY_FIELDS)]
