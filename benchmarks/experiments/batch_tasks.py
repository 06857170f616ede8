"""Tasks per second of a batch run's driver, with workers that do nothing."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from feredge.benchmarks.experiments.batch_kills import LOOPBACK
from feredge.benchmarks.experiments.command import Results
from feredge.runtime.batch.backends.ray import RayBackend
from feredge.runtime.batch.plan import Remaining
from feredge.runtime.batch.progress import Progress
from feredge.runtime.batch.schedule import Schedule, run_schedule
from feredge.runtime.batch.storage import OutputFolder
from feredge.runtime.batch.tasks import Outcome, Task
from feredge.runtime.errors import require

EMPTY_TASKS = 4000


def measure_tasks() -> Results:
    """Time what the driver does per task, with workers that do nothing, by number of workers."""
    os.environ.update(LOOPBACK)
    ray = require("ray", "batch")
    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    rates = {str(workers): empty_tasks_per_s(ray, workers) for workers in (2, 8, 16)}
    data = ray_data_tasks_per_s(ray)
    ray.shutdown()
    return {"tasks": EMPTY_TASKS, "units_per_task": 512, "tasks_per_s": rates,
            "ray_data_tasks_per_s": data, "ideal_backend_tasks_per_s": driver_tasks_per_s()}


class EmptyWorker:
    """A worker that does nothing."""

    def run(self, task: Any) -> Any:
        """Return an outcome."""
        return Outcome(rows=len(task.units), seconds={"read": 0.1, "detect": 0.1})

    def prepare(self) -> bool:
        """Answer that the process runs."""
        return True


def empty_tasks() -> Iterator[Any]:
    """Yield tasks of full size."""
    units = tuple(f"s3://bucket/some/folder/{k:012}.jpg" for k in range(512))
    return (Task("pictures", f"{k:032x}", units) for k in range(EMPTY_TASKS))


def run_empty(backend: Any) -> float:
    """Return the tasks per second of a schedule on a backend."""
    with tempfile.TemporaryDirectory() as folder:
        schedule = Schedule(empty_tasks(), OutputFolder(folder), 2)
        start_s = time.perf_counter()
        run_schedule(schedule, backend, Progress(Remaining(EMPTY_TASKS)).add)
        return round(EMPTY_TASKS / (time.perf_counter() - start_s), 1)


def empty_tasks_per_s(ray: Any, workers: int) -> float:
    """Return the rate of the Ray backend with actors that do nothing."""
    actor = ray.remote(num_cpus=1 / workers)(EmptyWorker)
    handles = [actor.remote() for _ in range(workers)]
    ray.get([handle.prepare.remote() for handle in handles])
    backend = RayBackend.__new__(RayBackend)
    backend.ray, backend.owns, backend.workers = ray, False, workers
    backend.idle, backend.starting, backend.running = handles, {}, {}
    rate = run_empty(backend)
    backend.close()
    return rate


class InstantBackend:
    """100 workers that are instantly done: what remains is the driver's own work."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []
        self.workers = 100

    def has_idle(self) -> bool:
        """Whether a worker waits for a task."""
        return len(self.tasks) < self.workers

    def submit(self, task: Any) -> None:
        """Give a task to an idle worker."""
        self.tasks.append(task)

    def wait(self, timeout_s: float) -> list[tuple[Any, Any]]:
        """Return all tasks with their outcomes."""
        worker, tasks = EmptyWorker(), self.tasks
        self.tasks = []
        return [(task, worker.run(task)) for task in tasks]

    def close(self) -> None:
        """Nothing runs."""


def driver_tasks_per_s() -> float:
    """Return the rate of the schedule alone, without Ray."""
    return run_empty(InstantBackend())


def ray_data_tasks_per_s(ray: Any) -> float:
    """Return the rate of Ray Data with the same number of tasks, its start included."""
    data = require("ray.data", "batch")
    data.DataContext.get_current().enable_progress_bars = False
    rows = [{"chunk": str(k)} for k in range(EMPTY_TASKS)]
    start_s = time.perf_counter()
    mapped = data.from_items(rows, override_num_blocks=400).map_batches(
        EmptyMap, batch_size=1, num_cpus=0.5,
        compute=data.ActorPoolStrategy(min_size=2, max_size=2))
    count = sum(1 for _ in mapped.iter_rows())
    return round(count / (time.perf_counter() - start_s), 1)


class EmptyMap:
    """A map of Ray Data that does nothing."""

    def __call__(self, batch: Any) -> Any:
        """Return the batch."""
        return batch
