"""Text outputs: JSON lines and CSV, complete after each frame."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from feredge.runtime.errors import OutputError
from feredge.runtime.files import check_folder
from feredge.runtime.outputs.base import face_record
from feredge.runtime.results import FrameResult


def open_text(path: str) -> TextIO:
    """Open a line-buffered text file; `-` is standard output.

    Raises:
        OutputError: it cannot be written.
    """
    if path == "-":
        return sys.stdout
    check_folder(Path(path))
    try:
        return open(path, "w", encoding="utf-8", newline="", buffering=1)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


class TextFile:
    """Base of the text outputs: a file that grows with every frame, so that it can be followed."""

    def __init__(self, path: str, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.file = open_text(path)

    def close(self) -> None:
        """Close the file."""
        if self.file is not sys.stdout:
            self.file.close()


class JsonLines(TextFile):
    """One JSON object per frame.

    `label` is the smoothed label of the face's track: for a few frames it may differ from the most
    probable class. `probabilities` are smoothed as well. `track` is null where a face has no track.
    `events` is present where a track starts or ends.
    """

    def write(self, result: FrameResult) -> None:
        """Write one line."""
        frame, faces = result.frame, result.faces
        record: dict[str, Any] = {
            "frame": frame.index, "source": frame.source, "time_s": round(frame.time_s, 4),
        }
        if frame.age_ms is not None:
            record["age_ms"] = round(frame.age_ms, 1)
        record["faces"] = [face_record(faces, k, self.labels) for k in range(len(faces))]
        if result.events:
            record["events"] = [{"event": event.kind, "track": event.track_id}
                                for event in result.events]
        self.file.write(json.dumps(record) + "\n")


class Csv(TextFile):
    """One row per face, with the fields of the JSON lines.

    The last column is `enter` in the first row of a track. A track that has ended has no row, so
    its last row marks its exit.
    """

    def __init__(self, path: str, labels: tuple[str, ...]) -> None:
        super().__init__(path, labels)
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(["frame", "source", "time_s", "track", "x0", "y0", "x1", "y1",
                            "score", "label", *labels, "event"])

    def write(self, result: FrameResult) -> None:
        """Write one row per face."""
        frame, faces = result.frame, result.faces
        entered = {event.track_id for event in result.events if event.kind == "enter"}
        for k in range(len(faces)):
            face = face_record(faces, k, self.labels)
            self.rows.writerow([
                frame.index, frame.source, round(frame.time_s, 4), face["track"], *face["box"],
                face["score"], face["label"], *face["probabilities"].values(),
                "enter" if face["track"] in entered else None,
            ])
