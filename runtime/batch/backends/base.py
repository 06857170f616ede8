"""The interface of the backends."""

from __future__ import annotations

from typing import Protocol

from feredge.runtime.batch.tasks import Outcome, Task


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
