"""Workers as Ray actors, on this machine or in a cluster. Ray schedules; files decide.

Plain actors and not Ray Data: its defaults repeat a picture that ends its process for ever, its
restarted actors can occupy the CPUs that its reader needs, and a task costs it ten times as much.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from typing import Any

from feredge.runtime.batch.backends.base import check_starts
from feredge.runtime.batch.options import LOCAL
from feredge.runtime.batch.tasks import Job, Outcome, Task
from feredge.runtime.batch.worker import Worker
from feredge.runtime.environment import configure_ray
from feredge.runtime.errors import EngineError, UsageError, require
from feredge.runtime.machine import cores

OBJECT_STORE_BYTES = 128 << 20  # tasks and outcomes are small
CONNECT_S = 10.0
RESTART_S = 0.2  # between two attempts to reach an actor that restarts
LOG = logging.getLogger(__name__)


class RayBackend:
    """One actor per worker; an actor that ends is restarted, its task is the schedule's to repeat.

    Args:
        job: what the workers need.
        workers: None is one per CPU, with a plan one per GPU.
        address: `local`, `auto` or the address of a cluster.

    Raises:
        UsageError: the cluster cannot be reached, or has no GPU for a plan.
    """

    def __init__(self, job: Job, workers: int | None, address: str) -> None:
        configure_ray()
        self.ray = require("ray", "batch")
        self.owns = not self.ray.is_initialized()
        if self.owns:
            start_ray(self.ray, workers, address)
        total = self.ray.cluster_resources()
        default = total.get("GPU" if job.is_on_gpu else "CPU", 0)
        self.workers = workers or max(int(default), 1)
        resources = worker_resources(job, self.workers, total.get("GPU", 0))
        actor = self.ray.remote(max_restarts=-1, max_task_retries=0, **resources)(Worker)
        self.idle: list[Any] = []
        self.failed_starts = 0
        self.starting = {handle.prepare.remote(): handle
                         for handle in (actor.remote(job) for _ in range(self.workers))}
        self.running: dict[Any, tuple[Any, Task]] = {}
        LOG.info("%d workers start as the cluster has room for them", self.workers)
        self.ray.wait(list(self.starting), num_returns=1)  # the clock of the run starts then

    def has_idle(self) -> bool:
        """Whether a worker waits for a task."""
        return bool(self.idle)

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker."""
        handle = self.idle.pop()
        self.running[handle.run.remote(task)] = handle, task

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome | None]]:
        """Return the tasks that ended; those whose worker ended have no outcome.

        Raises:
            EngineError: workers cannot be started.
        """
        references = [*self.running, *self.starting]
        ready, _ = self.ray.wait(references, num_returns=1, timeout=timeout_s)
        ended = []
        for reference in ready:
            if reference in self.starting:
                self.start(reference)
            else:
                ended.append(self.end(reference))
        return ended

    def start(self, reference: Any) -> None:
        """Take the answer of a worker that starts, or ask it again."""
        handle = self.starting.pop(reference)
        try:
            self.ray.get(reference)
            self.idle.append(handle)
            self.failed_starts = 0
        except self.ray.exceptions.RayActorError as error:
            if "creation task" in str(error):
                reason = str(error).strip().splitlines()[-1]
                raise EngineError(f"workers cannot start: {reason}; is feredge installed on all "
                                  "machines of the cluster?") from error
            self.failed_starts += 1
            check_starts(self.failed_starts)
            time.sleep(RESTART_S)
            self.starting[handle.prepare.remote()] = handle

    def end(self, reference: Any) -> tuple[Task, Outcome | None]:
        """Return a task that ended; a worker that ended with it is restarted by Ray."""
        handle, task = self.running.pop(reference)
        try:
            outcome: Outcome = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:  # the worker runs other code
            self.idle.append(handle)
            return task, Outcome(failure=str(error).strip().splitlines()[-1])
        except self.ray.exceptions.RayError as error:
            LOG.info("a worker ended: %s", str(error).strip().splitlines()[0])
            self.starting[handle.prepare.remote()] = handle
            return task, None
        self.idle.append(handle)
        return task, outcome

    def close(self) -> None:
        """End the workers, and Ray if it was started here."""
        for handle in [*self.idle, *self.starting.values(),
                       *(handle for handle, _ in self.running.values())]:
            self.ray.kill(handle)
        if self.owns:
            self.ray.shutdown()


def start_ray(ray: Any, workers: int | None, address: str) -> None:
    """Start Ray on this machine, or join a cluster.

    Raises:
        UsageError: Ray does not start, or the cluster cannot be reached.
    """
    check_address(address)
    here = {"num_cpus": workers or cores(), "object_store_memory": OBJECT_STORE_BYTES}
    try:
        context = ray.init(address, log_to_driver=False, logging_level=logging.ERROR,
                           **(here if address == LOCAL else {}))
    except Exception as error:  # Ray's own, of no common base
        reason = str(error).strip().splitlines()[0]
        if address == LOCAL:
            raise UsageError(f"Ray does not start: {reason}; try again, or --ray none") from error
        raise UsageError(f"no Ray cluster at {address}: {reason}; start one with: ray start "
                         "--head") from error
    if context.dashboard_url:
        LOG.info("Ray's dashboard: http://%s", context.dashboard_url)


def check_address(address: str) -> None:
    """Connect to the address of a cluster: Ray itself tries for minutes.

    Raises:
        UsageError: nothing accepts a connection there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():  # `local`, `auto`
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise UsageError(f"no Ray cluster at {address}: {error.strerror or error}; start one with: "
                         "ray start --head") from error


def worker_resources(job: Job, workers: int, gpus: float) -> dict[str, float]:
    """Return what a worker takes of its machine: a core, and with a plan an equal part of a GPU.

    Raises:
        UsageError: the cluster has no GPU.
    """
    if not job.is_on_gpu:
        return {"num_cpus": 1}
    if gpus < 1:
        raise UsageError(f"{job.engine} needs a GPU and the Ray cluster has none: use an .onnx "
                         "engine, or start Ray with --num-gpus")
    return {"num_cpus": 1, "num_gpus": 1 / math.ceil(workers / gpus)}
