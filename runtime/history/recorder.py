"""The output that records the history: sums over windows of ten seconds, never a picture."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from feredge.runtime.history.options import HistoryOptions
from feredge.runtime.history.store import WINDOW_S, HistoryStore, Row
from feredge.runtime.results import FrameResult
from feredge.runtime.sources.base import Source, part_name
from feredge.runtime.sysfs import temperatures_c

LONGEST_STEP_S = 1.0  # a longer time between two frames counts as this: nothing was seen meanwhile


@dataclass
class LabelSum:
    """Frames, seconds and probabilities of one label of one track in one window."""

    frames: int = 0
    seconds: float = 0.0
    probability: float = 0.0

    def add(self, seconds: float, probability: float) -> None:
        """Count one frame."""
        self.frames += 1
        self.seconds += seconds
        self.probability += probability

    @property
    def confidence(self) -> float:
        """Mean probability of the label."""
        return round(self.probability / self.frames, 4)


@dataclass
class SourceWindow:
    """Sums of one source in one window."""

    start: int
    labels: dict[tuple[int, int], LabelSum] = field(default_factory=lambda: defaultdict(LabelSum))
    events: list[tuple[int, str, int]] = field(default_factory=list)
    frames: int = 0
    dropped: int = 0
    age_ms: float | None = None


@dataclass
class StageSum:
    """Frames and times of one stage in one window."""

    frames: int = 0
    seconds: float = 0.0
    most_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one frame."""
        self.frames += 1
        self.seconds += seconds
        self.most_s = max(self.most_s, seconds)


class HistoryRecorder:
    """An output that sums results over ten seconds and writes them to a history file.

    A process that is killed loses the window that it is in, at most ten seconds.

    Args:
        options: file and age limit.
        source: the run's source; pictures are recorded under its name.
        labels: class names, in the order of the probabilities.
        model: what is said of the network in the report, such as its name and variant.
        clock: returns Unix time in seconds.

    Raises:
        OutputError: the file cannot be used.
    """

    def __init__(
        self, options: HistoryOptions, source: Source, labels: tuple[str, ...], model: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._started_s, self._source = clock, clock(), source
        self._store = HistoryStore(options.path, options.days)
        self._run = self._store.add_run(int(self._started_s), model)
        self._label_ids = [self._store.identify("labels", label) for label in labels]
        names = [part.name for part in source.parts]
        self._source_ids = {name: self._store.identify("sources", name) for name in names}
        self._windows: dict[str, SourceWindow] = {}
        self._stages: dict[str, StageSum] = defaultdict(StageSum)
        self._last: dict[str, tuple[float, int]] = {}  # time and index of each source's last frame

    def write(self, result: FrameResult) -> None:
        """Count one frame; a window that is over is written."""
        name = part_name(self._source, result.frame)
        now_s = self._time_s(result)
        start = int(now_s) // WINDOW_S * WINDOW_S
        window = self._windows.get(name)
        if window is not None and window.start != start:
            self._write_windows()
            window = None
        if window is None:
            window = self._windows[name] = SourceWindow(start)
        self._add_frame(window, result, now_s)
        for stage, seconds in result.times_s.items():
            self._stages[stage].add(seconds)

    def _time_s(self, result: FrameResult) -> float:
        """Return when a frame was taken: now, or its position in a recording after the start."""
        recorded = self._source.is_ordered and result.frame.captured_s is None
        return self._started_s + result.frame.time_s if recorded else self._clock()

    def _add_frame(self, window: SourceWindow, result: FrameResult, now_s: float) -> None:
        frame, faces = result.frame, result.faces
        last_s, last_index = self._last.get(frame.source, (now_s, frame.index - 1))
        step_s = min(max(now_s - last_s, 0.0), LONGEST_STEP_S)
        self._last[frame.source] = (now_s, frame.index)
        window.frames += 1
        window.age_ms = frame.age_ms
        window.dropped += max(frame.index - last_index - 1, 0) if window.age_ms is not None else 0
        for track, label, row in zip(faces.track_ids.tolist(), faces.label_ids.tolist(),
                                     faces.probabilities):
            if label >= 0:
                window.labels[max(track, 0), label].add(step_s, float(row[label]))
        window.events += [(int(now_s), event.kind, event.track_id) for event in result.events]

    def _source_id(self, name: str) -> int:
        if name not in self._source_ids:
            self._source_ids[name] = self._store.identify("sources", name)
        return self._source_ids[name]

    def _write_windows(self) -> None:
        """Write every source's window and the stages, and begin new ones."""
        rows: dict[str, list[Row]] = {"windows": [], "events": [], "health": [], "stages": []}
        temperature_c = max((degrees for _, degrees in temperatures_c()), default=None)
        for name, window in self._windows.items():
            source = self._source_id(name)
            rows["windows"] += self._label_rows(window, source)
            rows["events"] += [(when, source, self._run, kind, track)
                               for when, kind, track in window.events]
            age_ms = None if window.age_ms is None else round(window.age_ms, 1)
            rows["health"].append((window.start, source, self._run, window.frames, window.dropped,
                                   age_ms, temperature_c))
        rows["stages"] += self._stage_rows(min(one.start for one in self._windows.values()))
        self._store.add(rows, int(self._clock()))
        self._windows.clear()
        self._stages.clear()

    def _label_rows(self, window: SourceWindow, source: int) -> list[Row]:
        return [(window.start, source, self._run, track, self._label_ids[label], sums.frames,
                 round(sums.seconds, 3), sums.confidence)
                for (track, label), sums in window.labels.items()]

    def _stage_rows(self, start: int) -> list[Row]:
        return [(start, stage, self._run, sums.frames,
                 round(sums.seconds / sums.frames * 1e3, 3), round(sums.most_s * 1e3, 3))
                for stage, sums in self._stages.items()]

    def close(self) -> None:
        """Write the last window and close the file."""
        if self._windows:
            self._write_windows()
        self._store.close()
