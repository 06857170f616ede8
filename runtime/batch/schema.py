"""The Arrow schema of the output, and the rows that fill it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feredge.runtime.errors import require
from feredge.runtime.quality import QUALITY_FIELDS, quality_of
from feredge.runtime.results import Array, Faces

SPEC_KEY, SETTINGS_KEY = "feredge", "feredge.batch"
Row = dict[str, Any]


def new_schema(labels: Sequence[str], metadata: Mapping[str, str], landmarks: bool = False) -> Any:
    """Return the schema: one row per picture or frame, with a list of its faces.

    Args:
        labels: the classes, in the order of `probabilities`.
        metadata: the ModelSpec and the settings, as JSON.
        landmarks: add the fields `QUALITY_FIELDS` to each face.
    """
    pa = require("pyarrow", "batch")
    real = pa.float32()
    face = pa.struct([
        ("box", pa.list_(real, 4)), ("score", real), ("landmarks", pa.list_(real, 10)),
        ("track", pa.int64()), ("label", pa.string()), ("probability", real),
        ("probabilities", pa.list_(real, len(labels))),
        *((name, real) for name in QUALITY_FIELDS if landmarks),
    ])
    return pa.schema([
        ("unit", pa.string()), ("source", pa.string()), ("frame", pa.int64()),
        ("time_s", pa.float64()), ("width", pa.int32()), ("height", pa.int32()),
        ("error", pa.string()), ("faces", pa.list_(face)),
    ], metadata=dict(metadata))


def new_row(unit: str, source: str, frame_bgr: Array, faces: Faces, labels: Sequence[str]) -> Row:
    """Return the row of a picture or frame; `frame` and `time_s` are empty."""
    height, width = frame_bgr.shape[:2]
    return {"unit": unit, "source": source, "frame": None, "time_s": None, "width": width,
            "height": height, "error": None, "faces": face_rows(faces, labels)}


def error_row(unit: str, source: str, error: str) -> Row:
    """Return the row of an input that could not be read or classified."""
    return {"unit": unit, "source": source, "error": error, "faces": []}


def face_rows(faces: Faces, labels: Sequence[str]) -> list[Row]:
    """Return one struct per face, with its quality if that was measured."""
    quality = quality_of(faces)
    columns = zip(quality.sizes_px.tolist(), quality.sharpness.tolist(),
                  quality.roll_deg.tolist(), quality.yaw.tolist())
    measured = not np.isnan(faces.sharpness).any()
    return [
        {"box": faces.boxes_xyxy[k].tolist(), "score": float(faces.scores[k]),
         "landmarks": faces.landmarks[k].reshape(-1).tolist(),
         "track": None if faces.track_ids[k] < 0 else int(faces.track_ids[k]),
         "label": labels[faces.label_ids[k]],
         "probability": float(faces.probabilities[k, faces.label_ids[k]]),
         "probabilities": faces.probabilities[k].tolist(),
         **(dict(zip(QUALITY_FIELDS, values)) if measured else {})}
        for k, values in enumerate(columns)
    ]


def faces_of(row: Row, labels: Sequence[str]) -> Faces:
    """Return the faces of a row as they were before `face_rows`, without tracks."""
    faces, count = row["faces"], len(row["faces"])
    found = Faces.from_detections(
        np.reshape([face["box"] for face in faces], (count, 4)),
        np.reshape([face["landmarks"] for face in faces], (count, 5, 2)),
        np.array([face["score"] for face in faces]),
    )
    sharpness = np.array([face.get("sharpness", np.nan) for face in faces], np.float32)
    rows = [face["probabilities"] for face in faces]
    return replace(found, sharpness=sharpness).with_probabilities(
        np.reshape(np.asarray(rows, np.float32), (count, len(labels))))


def table_bytes(rows: Sequence[Row], schema: Any) -> bytes:
    """Return the rows as a Parquet file."""
    pa, pq = require("pyarrow", "batch"), require("pyarrow.parquet", "batch")
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), buffer, compression="zstd")
    return buffer.getvalue()


def count_file(stream: Any) -> tuple[int, int, int]:
    """Return rows, faces and errors of an output file, from its footer alone."""
    metadata = require("pyarrow.parquet", "batch").ParquetFile(stream).metadata
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    errors = sum(count_values(group, "error") for group in groups)
    return metadata.num_rows, sum(count_values(group, "faces.list.element.score")
                                  for group in groups), errors


def count_values(group: Any, name: str) -> int:
    """Return how many values of a column are not null, by its statistics."""
    columns = (group.column(k) for k in range(group.num_columns))
    statistics = next(column for column in columns if column.path_in_schema == name).statistics
    return 0 if statistics is None else int(statistics.num_values)
