"""Track summary: per track the time in view, and the share of each label."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime.files import atomic_write, prepare_folder
from feredge.runtime.results import Array, FrameResult


@dataclass
class View:
    """One track: when it was in view, and for how many seconds it had each label.

    `seconds` is `(labels + 1,)` float64; the last is the time in which the face was unsure, and its
    `label_id` is -1.
    """

    source: str
    from_s: float
    to_s: float
    label_id: int
    seconds: Array

    def add(self, time_s: float, label_id: int) -> None:
        """Add the time since the previous frame to the label of that frame."""
        self.seconds[self.label_id] += max(time_s - self.to_s, 0.0)
        self.to_s, self.label_id = time_s, label_id

    def shares(self) -> Array:
        """Return the share of each label and of unsure, `(labels + 1,)`.

        The share of the label is 1 for a single frame.
        """
        total = self.seconds.sum()
        single = np.arange(len(self.seconds)) == self.label_id % len(self.seconds)
        return np.asarray(self.seconds / total if total else single, float)


class TrackSummary:
    """A JSON file with one entry per track, written at the end.

    The time in view is from the first to the last frame of a track; while the face is hidden, the
    time is added to its last label.
    """

    def __init__(self, path: str, labels: tuple[str, ...]) -> None:
        self.path, self.labels = Path(path), labels
        self.views: dict[int, View] = {}
        prepare_folder(self.path)

    def write(self, result: FrameResult) -> None:
        """Count one frame."""
        frame, faces = result.frame, result.faces
        for track_id, label_id in zip(faces.track_ids.tolist(), faces.label_ids.tolist()):
            if track_id >= 0:
                start = View(frame.source, frame.time_s, frame.time_s, label_id,
                             np.zeros(len(self.labels) + 1))
                self.views.setdefault(track_id, start).add(frame.time_s, label_id)

    def record(self, track_id: int) -> dict[str, Any]:
        """Return one track with the field names of the file."""
        view = self.views[track_id]
        shares = [round(share, 4) for share in view.shares().tolist()]
        return {
            "track": track_id, "source": view.source, "from_s": round(view.from_s, 4),
            "to_s": round(view.to_s, 4), "in_view_s": round(view.to_s - view.from_s, 4),
            "label": self.labels[int(np.argmax(shares[:-1]))] if any(shares[:-1]) else None,
            "shares": dict(zip(self.labels, shares)),
        } | ({"unsure_share": shares[-1]} if shares[-1] else {})

    def close(self) -> None:
        """Write the file atomically."""
        tracks = [self.record(track_id) for track_id in sorted(self.views)]
        with atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps({"tracks": tracks}, indent=1) + "\n")
