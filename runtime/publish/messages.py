"""Topics and payloads; `schemas/` describes them in JSON Schema.

| topic below `PREFIX/DEVICE/` | retained | what |
| --- | --- | --- |
| `status` | yes | online or offline; the broker's last will says offline |
| `SOURCE/status` | yes | the state of a live source |
| `SOURCE/state` | yes | faces in view, at most once a second |
| `SOURCE/events` | no | enter, exit, label: at least once, with `run` and `seq` |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from feredge.runtime.publish.options import topic_level
from feredge.runtime.results import FrameResult
from feredge.runtime.sources.base import Health

FORMAT = 1


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def source_topics(names: Sequence[str]) -> dict[str, str]:
    """Return each source's level of the topics; sources whose names look alike get a number."""
    levels = [topic_level(name) for name in names]
    return {name: level if levels.count(level) == 1 else f"{level}-{k}"
            for k, (name, level) in enumerate(zip(names, levels))}


def status_record(state: str, run: str, dropped: int = 0) -> dict[str, Any]:
    """Return the device's status: online or offline, and how many events the spool dropped."""
    return {"format": FORMAT, "state": state, "run": run, "time": utc_now(), "dropped": dropped}


def source_status_record(health: Health) -> dict[str, Any]:
    """Return a live source's status; the silence counts whole seconds."""
    record = {"format": FORMAT, **asdict(health), "time": utc_now()}
    return record | {"silent_s": round(health.silent_s)}


@dataclass
class SourceState:
    """What is kept of one source between messages: its newest result, and each track's label."""

    labels: tuple[str, ...]
    frames: int = 0
    people: list[dict[str, Any]] = field(default_factory=list)
    frame_time_s: float = 0.0
    age_ms: float | None = None
    track_labels: dict[int, str | None] = field(default_factory=dict)

    def update(self, result: FrameResult) -> Iterator[dict[str, Any]]:
        """Take a frame's result and yield its events: enter, exit, and a track's new label."""
        self.frames += 1
        self.frame_time_s, self.age_ms = result.frame.time_s, result.frame.age_ms
        self.people = list(people_of(result, self.labels))
        shown = {person["track"]: person for person in self.people if person["track"] is not None}
        for event in result.events:
            yield {"event": event.kind, "track": event.track_id,
                   "label": self._event_label(event.track_id, shown)}
            if event.kind == "exit":
                self.track_labels.pop(event.track_id, None)
        for track, person in shown.items():
            before = self.track_labels.get(track, person["label"])
            self.track_labels[track] = person["label"]
            if before != person["label"]:
                yield {"event": "label", "track": track, "label": person["label"]}

    def _event_label(self, track: int, shown: dict[int, dict[str, Any]]) -> str | None:
        return shown[track]["label"] if track in shown else self.track_labels.get(track)

    def record(self) -> dict[str, Any]:
        """Return the state message's payload."""
        age_ms = None if self.age_ms is None else round(self.age_ms, 1)
        return {"format": FORMAT, "time": utc_now(), "frames": self.frames,
                "time_s": round(self.frame_time_s, 3), "age_ms": age_ms,
                "people": len(self.people), "faces": self.people}


def people_of(result: FrameResult, labels: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield track, label and probability of each face."""
    faces = result.faces
    for track, label_id, row in zip(faces.track_ids.tolist(), faces.label_ids.tolist(),
                                    faces.probabilities):
        known = label_id >= 0
        yield {"track": track if track >= 0 else None, "label": labels[label_id] if known else None,
               "probability": round(float(row[label_id]), 4) if known else None}
