"""A batch run: list, plan, run what is missing, count."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from feredge.runtime.batch.backends import open_backend
from feredge.runtime.batch.listing import list_inputs
from feredge.runtime.batch.lock import lock_output
from feredge.runtime.batch.options import BatchOptions
from feredge.runtime.batch.plan import Plan
from feredge.runtime.batch.progress import Progress
from feredge.runtime.batch.schedule import Schedule, run_schedule
from feredge.runtime.batch.schema import count_file
from feredge.runtime.batch.settings import check_settings, new_job
from feredge.runtime.batch.storage import WORK, OutputFolder
from feredge.runtime.batch.tasks import SEGMENTS, Job
from feredge.runtime.errors import require

SUFFIX = ".parquet"
CHUNK_FILE = re.compile(rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}")
READERS = 16  # footers that are read concurrently


@dataclass(frozen=True)
class BatchSummary:
    """The rows of an output, and what this run added.

    Attributes:
        rows: of the whole output, as are `faces` and `errors`.
        faces: of all rows.
        errors: rows of inputs that could not be read or classified.
        inputs: added to the plan by this run.
        new_rows: written by this run.
        seconds: from the first task to the last, without the start of the workers.
        rows_per_s: of this run.
        stages_ms: mean time per new row by stage; the workers' times are added up.
    """

    rows: int
    faces: int
    errors: int
    inputs: int
    new_rows: int
    seconds: float
    rows_per_s: float
    stages_ms: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON's types."""
        return asdict(self)

    def __str__(self) -> str:
        """Return it as two lines of text."""
        stages = ", ".join(f"{name} {ms:.1f}" for name, ms in self.stages_ms.items()) or "none"
        return (f"{self.rows} rows, {self.faces} faces, {self.errors} errors; {self.new_rows} rows "
                f"new, {self.rows_per_s:.1f} rows/s over {self.seconds:.1f} s\n"
                f"mean ms per new row: {stages}")


def batch(options: BatchOptions) -> BatchSummary:
    """Write one row per picture or video frame of the sources, exactly once.

    A run that was interrupted, or whose sources have grown, is completed by another call with the
    same options. Where nothing is missing, no worker is started.

    Raises:
        UsageError: other settings than those of the output, or an unreachable cluster.
        SourceError: a source does not exist or contains nothing.
        OutputError: the output cannot be written, or is in use by another run.
        EngineError: engine or detector cannot be opened.
        PackageError: the extra `batch` is not installed.
    """
    require("pyarrow", "batch")
    job = new_job(options)
    output = OutputFolder(options.output)
    with lock_output(output):
        check_settings(job, output)
        plan = Plan(output)
        inputs = plan.add(list_inputs(options.sources), options.chunk)
        finished = finished_chunks(output)
        remaining = plan.remaining(finished)
        progress = Progress(remaining)
        if remaining.chunks:
            run_missing(options, job, Schedule(plan.tasks(finished), output, options.retries),
                        progress)
        remove_temporary(output)
        return summarize(output, inputs, progress)


def run_missing(options: BatchOptions, job: Job, schedule: Schedule, progress: Progress) -> None:
    """Start workers and run all tasks."""
    backend = open_backend(options, job)
    try:
        progress.start()
        run_schedule(schedule, backend, progress.add)
    finally:
        progress.close()
        backend.close()


def finished_chunks(output: OutputFolder) -> set[str]:
    """Return the chunks whose file exists; other Parquet files may stand beside them."""
    return {name.removesuffix(SUFFIX) for name in output.names() if CHUNK_FILE.fullmatch(name)}


def remove_temporary(output: OutputFolder) -> None:
    """Delete what ended workers left: temporary files, journals, segments of finished videos."""
    for folder in (WORK, SEGMENTS):
        for name in output.names(folder):
            if name != "lock":
                output.delete(f"{folder}/{name}")


def summarize(output: OutputFolder, inputs: int, progress: Progress) -> BatchSummary:
    """Count the rows of the output by the footers of its files."""
    names = [f"{chunk}{SUFFIX}" for chunk in finished_chunks(output)]
    with ThreadPoolExecutor(READERS) as threads:
        counts = list(threads.map(lambda name: count_output(output, name), names))
    rows, faces, errors = (sum(column) for column in zip(*counts)) if counts else (0, 0, 0)
    new, seconds = progress.total, progress.seconds
    stages_ms = {stage: round(total / max(new.rows, 1) * 1e3, 3)
                 for stage, total in new.seconds.items()}
    return BatchSummary(rows, faces, errors, inputs, new.rows, round(seconds, 3),
                        round(new.rows / seconds, 2) if seconds else 0.0, stages_ms)


def count_output(output: OutputFolder, name: str) -> tuple[int, int, int]:
    """Return rows, faces and errors of one file."""
    with output.open(name) as stream:
        return count_file(stream)
