"""Workers as processes of this machine, without Ray. As a module: the process itself."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

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
        self.connection.send(job)

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

    def has_idle(self) -> bool:
        """Whether a worker waits for a task."""
        return any(process.task is None for process in self.processes)

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker; one that has ended is replaced."""
        k = next(k for k, process in enumerate(self.processes) if process.task is None)
        try:
            self.processes[k].connection.send(task)
        except OSError:
            self.replace(k)
            self.processes[k].connection.send(task)
        self.processes[k].task = task

    def wait(self, timeout_s: float) -> list[tuple[Task, Outcome | None]]:
        """Return the tasks that ended; those whose worker ended have no outcome."""
        busy = {process.connection: k for k, process in enumerate(self.processes)
                if process.task is not None}
        ready = wait(list(busy), timeout_s)
        return [self.end(busy[connection]) for connection in ready]  # type: ignore[index]

    def end(self, k: int) -> tuple[Task, Outcome | None]:
        """Return the task of a process that ended it, or that ended itself."""
        process = self.processes[k]
        task, process.task = process.task, None
        assert task is not None
        try:
            return task, process.connection.recv()
        except (EOFError, OSError):
            self.replace(k)
            return task, None

    def replace(self, k: int) -> None:
        """Start a process in the place of one that ended."""
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
        while True:
            connection.send(worker.run(connection.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


if __name__ == "__main__":
    main()
