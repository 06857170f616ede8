"""The interface of the backends."""

from __future__ import annotations

from typing import Protocol

from feredge.runtime.batch.tasks import Outcome, Task
from feredge.runtime.errors import EngineError

MOST_FAILED_STARTS = 20  # one after the other: not nodes that end, but an engine that crashes


def check_starts(failed: int) -> None:
    """Compare the number of workers that ended while they started with the limit.

    Raises:
        EngineError: too many.
    """
    if failed > MOST_FAILED_STARTS:
        raise EngineError(f"{failed} workers ended one after the other while they opened the "
                          "engine: not enough memory, or a damaged engine; see the workers' logs")


class Backend(Protocol):
    """Runs tasks on workers.

    Attributes:
        workers: how many there are.
    """

    workers: int

    def has_idle(self) -> bool:
        """Whether a worker waits for a task."""

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker."""

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome | None]]:
        """Return the tasks that ended; those whose worker ended have no outcome.

        Raises:
            FeredgeError: workers cannot be started.
        """

    def close(self) -> None:
        """End the workers."""
