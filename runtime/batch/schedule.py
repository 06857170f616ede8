"""The schedule: which task runs next, and what follows when its worker ends.

A task whose worker ended runs again, carefully: it notes which unit it works on. A unit at which
workers ended too often gets an error row, and the rest of its task runs to the end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from feredge.runtime.batch.backends.base import Backend
from feredge.runtime.batch.storage import WORK, OutputFolder
from feredge.runtime.batch.tasks import JOIN, SEGMENT, SEGMENTS, Outcome, Task, segment_name
from feredge.runtime.errors import EngineError, FeredgeError

POLL_S = 1.0
MOST_STARTS = 5  # a task whose workers end before its first unit: the machine's fault


@dataclass
class Deaths:
    """How often workers ended on a task: before its first unit, and at each unit."""

    starts: int = 0
    at: Counter[int] = field(default_factory=Counter)
    skip: dict[int, str] = field(default_factory=dict)


class Schedule:
    """The tasks of a run, in the order in which they are given to workers.

    Args:
        tasks: planned tasks, taken as they are needed.
        output: journals and finished segments are read from it.
        retries: how often a unit that ends its worker is tried again.
    """

    def __init__(self, tasks: Iterator[Task], output: OutputFolder, retries: int) -> None:
        self.tasks, self.output, self.retries = tasks, output, retries
        self.urgent: deque[Task] = deque()
        self.deaths: dict[str, Deaths] = {}
        self.missing_parts: dict[str, set[int]] = {}
        self.segments = set(output.names(SEGMENTS))

    def next(self) -> Task | None:
        """Return the next task: repeated ones and segments first; None if there is none now."""
        return self.urgent.popleft() if self.urgent else next(self.tasks, None)

    def end(self, task: Task, outcome: Outcome | None) -> bool:
        """Take the outcome of a task, and return whether its chunk is finished.

        Raises:
            FeredgeError: the run cannot go on.
        """
        if outcome is None:
            self.repeat(task)
            return False
        if outcome.failure is not None:
            raise FeredgeError(outcome.failure)
        self.deaths.pop(task.key, None)
        if task.kind == SEGMENT:
            self.end_segment(task)
        elif outcome.parts:
            self.divide(task, outcome.parts)
        return task.kind != SEGMENT and not outcome.parts

    def divide(self, task: Task, parts: int) -> None:
        """Add the segments of a video; those of an earlier run are kept."""
        missing = {part for part in range(parts)
                   if segment_name(task.chunk, part, parts) not in self.segments}
        self.missing_parts[task.chunk] = missing
        segments = [replace(task, kind=SEGMENT, part=part, parts=parts)
                    for part in sorted(missing)]
        self.urgent += segments or [replace(task, kind=JOIN, parts=parts)]

    def end_segment(self, task: Task) -> None:
        """Add the join once all segments of a video are there."""
        missing = self.missing_parts[task.chunk]
        missing.discard(task.part)
        if not missing:
            del self.missing_parts[task.chunk]
            self.urgent.appendleft(replace(task, kind=JOIN, part=0, careful=False, skip={}))

    def repeat(self, task: Task) -> None:
        """Add a task again whose worker ended; skip the unit at which it ends too often.

        Raises:
            EngineError: workers end before they begin.
        """
        deaths = self.deaths.setdefault(task.key, Deaths())
        unit = self.take_noted_unit(task) if task.careful else None
        if unit is not None:
            deaths.at[unit] += 1
            if deaths.at[unit] >= self.retries:
                times = deaths.at[unit] + 1
                deaths.skip[unit] = f"its worker process ended {times} times"
        elif task.careful:
            deaths.starts += 1
        if deaths.starts > MOST_STARTS:
            raise EngineError(f"workers end before the first input of a task ({task.units[0]}): "
                              "not enough memory, or a damaged engine; see Ray's logs")
        self.urgent.append(replace(task, careful=True, skip=dict(deaths.skip)))

    def take_noted_unit(self, task: Task) -> int | None:
        """Return the unit that a careful task worked on, and delete the note."""
        name = f"{WORK}/{task.key}"
        note = self.output.read(name)
        self.output.delete(name)
        return int(note) if note else None


def run_schedule(
    schedule: Schedule, backend: Backend, report: Callable[[Outcome | None, bool], None]
) -> None:
    """Run all tasks.

    Args:
        schedule: the tasks.
        backend: the workers.
        report: called with each outcome and whether it finished a chunk, and with none at least
            once per second.
    """
    running, task = 0, schedule.next()
    while running or task is not None:
        while task is not None and backend.has_idle():
            backend.submit(task)
            running, task = running + 1, schedule.next()
        for ended, outcome in backend.wait(POLL_S):
            running -= 1
            report(outcome, schedule.end(ended, outcome))
        report(None, False)
        task = task or schedule.next()
