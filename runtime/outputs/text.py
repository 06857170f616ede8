"""Text outputs: JSON lines and CSV, complete after each frame."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from feredge.runtime.errors import OutputError
from feredge.runtime.files import prepare_folder
from feredge.runtime.outputs.base import escape, face_record
from feredge.runtime.outputs.landmarks import LANDMARK_COLUMNS, landmark_cells, landmark_records
from feredge.runtime.results import FrameResult

STDOUT = "-"
FORMAT = 1  # of `schemas/`: another number where a field changes its meaning, type or name
# Spreadsheets run a cell that begins with one of these as a formula (OWASP: "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def open_text(path: str) -> TextIO:
    """Open a line-buffered text file; `-` is standard output.

    Raises:
        OutputError: it cannot be written.
    """
    if path == STDOUT:
        if sys.stdout is None:
            raise OutputError("standard output is closed: name a file instead of -")
        return sys.stdout
    prepare_folder(Path(path))
    try:
        return open(path, "w", encoding="utf-8", newline="", buffering=1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{escape(path)} cannot be written: {reason}") from error


class TextFile:
    """Base of the text outputs: a file that grows with every frame, so that it can be followed."""

    def __init__(self, path: str, labels: tuple[str, ...]) -> None:
        self.labels, self.path = labels, path
        self.file = open_text(path)

    def write_text(self, text: str) -> None:
        """Write complete lines.

        Raises:
            OutputError: the file cannot be written, for example because the disk is full.
            BrokenPipeError: the reader of standard output has ended.
        """
        try:
            self.file.write(text)
            self.file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self.failure(error) from error

    def failure(self, error: OSError) -> OutputError:
        """Return the error of a file that cannot be written."""
        name = "standard output" if self.path == STDOUT else escape(self.path)
        return OutputError(f"{name} cannot be written: {error.strerror or error}")

    def close(self) -> None:
        """Close the file.

        Raises:
            OutputError: the last lines cannot be written.
        """
        if self.file is sys.stdout:
            return
        try:
            self.file.close()
        except OSError as error:
            raise self.failure(error) from error


class JsonLines(TextFile):
    """One JSON object per frame.

    `label` is the smoothed label of the face's track: for a few frames it may differ from the most
    probable class. `probabilities` are smoothed as well. `track` is null where a face has no track.
    `events` is present where a track starts or ends. `schemas/frame.schema.json` describes a line.
    """

    def write(self, result: FrameResult) -> None:
        """Write one line."""
        frame, faces = result.frame, result.faces
        record: dict[str, Any] = {
            "format": FORMAT, "frame": frame.index, "source": escape_bytes(frame.source),
            "time_s": round(frame.time_s, 4),
        }
        if frame.age_ms is not None:
            record["age_ms"] = round(frame.age_ms, 1)
        record["faces"] = [face_record(faces, k, self.labels) | landmarks
                           for k, landmarks in enumerate(landmark_records(faces))]
        if result.events:
            record["events"] = [{"event": event.kind, "track": event.track_id}
                                for event in result.events]
        self.write_text(json.dumps(record) + "\n")


class Csv(TextFile):
    """One row per face, with the fields of the JSON lines.

    The last column is `enter` in the first row of a track. A track that has ended has no row, so
    its last row marks its exit. A text that a spreadsheet would run as a formula, because it begins
    with `=`, `+`, `-` or `@`, is written with a `'` before it; control characters are escaped.

    Args:
        path: a file, or `-` for standard output.
        labels: the class names.
        landmarks: add `LANDMARK_COLUMNS`; the pipeline has to measure them (`PipelineOptions`).
    """

    def __init__(self, path: str, labels: tuple[str, ...], landmarks: bool = False) -> None:
        super().__init__(path, labels)
        self.landmarks = landmarks
        self.write_row(["frame", "source", "time_s", "track", "x0", "y0", "x1", "y1", "score",
                        "label", *labels, *(LANDMARK_COLUMNS if landmarks else ()), "event"])

    def write_row(self, cells: list[Any]) -> None:
        """Write one row; None is an empty cell."""
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(
            [safe_cell(cell) if isinstance(cell, str) else cell for cell in cells])
        self.write_text(line.getvalue())

    def write(self, result: FrameResult) -> None:
        """Write one row per face."""
        frame, faces = result.frame, result.faces
        entered = {event.track_id for event in result.events if event.kind == "enter"}
        for k, landmarks in enumerate(landmark_records(faces)):
            face = face_record(faces, k, self.labels)
            self.write_row([
                frame.index, frame.source, round(frame.time_s, 4), face["track"], *face["box"],
                face["score"], face["label"], *face["probabilities"].values(),
                *(landmark_cells(landmarks) if self.landmarks else ()),
                "enter" if face["track"] in entered else None,
            ])


def safe_cell(text: str) -> str:
    """Return a text as a cell that no spreadsheet runs as a formula."""
    return ("'" if text.startswith(FORMULA_STARTS) else "") + escape(text)


def escape_bytes(text: str) -> str:
    """Return a text with those bytes escaped that are not UTF-8; JSON escapes the rest."""
    return text.encode(errors="backslashreplace").decode()
