"""Workers as processes of this machine, without Ray. As a module: the process itself."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from feredge.runtime.batch.backends.base import check_starts
from feredge.runtime.batch.tasks import Job, Outcome, Task
from feredge.runtime.batch.worker import Worker
from feredge.runtime.machine import cores


class WorkerProcess:
    """A worker process and the connection to it; it ends when the driver does."""

    def __init__(self, job: Job) -> None:
        self.connection, child = Pipe()
        number = child.fileno()
        command = [sys.executable, "-m", __name__, str(number)]
        self.process = subprocess.Popen(command, pass_fds=[number], stdin=subprocess.DEVNULL)
        child.close()
        self.task: Task | None = None
        self.is_ready = False
        self.connection.send(job)

    @property
    def is_idle(self) -> bool:
        """Whether the process waits for a task."""
        return self.is_ready and self.task is None

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


class ProcessBackend:
    """One process per worker; one that ends is replaced.

    Args:
        job: what the workers need.
        workers: None is one per core, with a plan one.
    """

    def __init__(self, job: Job, workers: int | None) -> None:
        self.job = job
        self.workers = workers or (1 if job.is_on_gpu else cores())
        self.processes = [WorkerProcess(job) for _ in range(self.workers)]
        self.failed_starts = 0
        wait([process.connection for process in self.processes])  # the clock of the run starts then

    def has_idle(self) -> bool:
        """Whether a worker waits for a task."""
        return any(process.is_idle for process in self.processes)

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker; one that has ended since is noticed by `wait`."""
        process = next(process for process in self.processes if process.is_idle)
        process.task = task
        with contextlib.suppress(OSError):
            process.connection.send(task)

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome | None]]:
        """Return the tasks that ended; those whose worker ended have no outcome."""
        busy = {process.connection: k for k, process in enumerate(self.processes)
                if not process.is_idle}
        ready = wait(list(busy), timeout_s)
        ended = [self.receive(busy[connection]) for connection in ready]  # type: ignore[index]
        return [pair for pair in ended if pair is not None]

    def receive(self, k: int) -> tuple[Task, Outcome | None] | None:
        """Take the message of a process, or its end; None where no task ended."""
        process = self.processes[k]
        task, process.task = process.task, None
        try:
            message = process.connection.recv()
        except (EOFError, OSError):
            self.replace(k)
            return None if task is None else (task, None)
        process.is_ready, self.failed_starts = True, 0
        return None if task is None else (task, message)

    def replace(self, k: int) -> None:
        """Start a process in the place of one that ended.

        Raises:
            EngineError: too many ended while they started.
        """
        if not self.processes[k].is_ready:
            self.failed_starts += 1
            check_starts(self.failed_starts)
        self.processes[k].close()
        self.processes[k] = WorkerProcess(self.job)

    def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.close()


def main() -> None:
    """Run tasks until the driver closes the connection, or ends."""
    from feredge.runtime.environment import quiet_opencv

    quiet_opencv()
    connection: Connection = Connection(int(sys.argv[1]))
    try:
        worker = Worker(connection.recv())
        connection.send(worker.prepare())
        while True:
            connection.send(worker.run(connection.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


if __name__ == "__main__":
    main()
