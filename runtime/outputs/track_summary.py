"""Track summary: for each person the time in view, and each expression's share of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime.files import atomic_write, check_folder
from feredge.runtime.results import Array, FrameResult


@dataclass
class View:
    """One track: when it was in view, and the seconds that each label was shown."""

    source: str
    from_s: float
    to_s: float
    label_id: int
    seconds: Array

    def add(self, time_s: float, label_id: int) -> None:
        """Count the time since the frame before for the label that was shown then."""
        self.seconds[self.label_id] += max(time_s - self.to_s, 0.0)
        self.to_s, self.label_id = time_s, label_id

    def shares(self) -> Array:
        """Return each label's share of the time; who was there for one frame only shows one."""
        total = self.seconds.sum()
        single = np.arange(len(self.seconds)) == self.label_id
        return np.asarray(self.seconds / total if total else single, float)


class TrackSummary:
    """A JSON file with one entry a track, written at the end.

    Time in view runs from a track's first frame to its last; moments in which the face was hidden
    count for the label before them.
    """

    def __init__(self, path: str, labels: tuple[str, ...]) -> None:
        self.path, self.labels = Path(path), labels
        self.views: dict[int, View] = {}
        check_folder(self.path)

    def write(self, result: FrameResult) -> None:
        """Count one frame."""
        frame, faces = result.frame, result.faces
        for track_id, label_id in zip(faces.track_ids.tolist(), faces.label_ids.tolist()):
            if track_id >= 0:
                start = View(frame.source, frame.time_s, frame.time_s, label_id,
                             np.zeros(len(self.labels)))
                self.views.setdefault(track_id, start).add(frame.time_s, label_id)

    def record(self, track_id: int) -> dict[str, Any]:
        """Return one track as it stands in the file."""
        view = self.views[track_id]
        shares = [round(share, 4) for share in view.shares().tolist()]
        return {
            "track": track_id, "source": view.source, "from_s": round(view.from_s, 4),
            "to_s": round(view.to_s, 4), "in_view_s": round(view.to_s - view.from_s, 4),
            "label": self.labels[int(np.argmax(shares))],
            "shares": dict(zip(self.labels, shares)),
        }

    def close(self) -> None:
        """Write the file, whole or not at all."""
        tracks = [self.record(track_id) for track_id in sorted(self.views)]
        with atomic_write(self.path) as beside:
            beside.write_text(json.dumps({"tracks": tracks}, indent=1) + "\n")
