"""Batch runs: pictures per second against fer-run, tasks per second, resuming, memory, kills.

Usage: `python -m feredge.benchmarks.experiments.batch --engine ENGINE --source FOLDER
[--parts PART ...] [--plot FILE] [--json FILE]`; parts that are not measured are kept from FILE.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from feredge.benchmarks.experiments.batch_kills import (
    KillPlan,
    measure_kills,
    random_kills,
)
from feredge.benchmarks.experiments.batch_plot import plot_timeline
from feredge.benchmarks.experiments.batch_tasks import measure_tasks
from feredge.benchmarks.experiments.command import Experiment, Results

MANY, KILLS = 100_000, 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the experiment."""
    parser.add_argument("--engine", required=True, type=Path, metavar="PATH")
    parser.add_argument("--source", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--video", type=Path, metavar="PATH", help="also killed in segments")
    parser.add_argument("--pictures", type=int, default=2000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--plot", type=Path, metavar="FILE",
                        help="PNG or SVG of the first output of the part kills")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))


def measure_kill_rows(options: argparse.Namespace) -> Results:
    """Kill actors, nodes and drivers, and count rows."""
    sources = [str(path) for path in (options.source, options.video) if path]
    with tempfile.TemporaryDirectory() as folder:
        plan = KillPlan(sources, str(options.engine), Path(folder), random_kills(KILLS, 0))
        return measure_kills(plan).to_dict()


def measure_resume(options: argparse.Namespace) -> Results:
    """Time a run with nothing to do: 100,000 pictures whose rows exist."""
    from feredge.runtime.batch import BatchOptions

    with tempfile.TemporaryDirectory() as folder:
        source = link_pictures(options.source, Path(folder) / "pictures", MANY)
        given = BatchOptions((str(source),), f"{folder}/out", str(options.engine))
        write_finished(given)
        command = batch_command(given.output, source, options.engine, "local")
        start_s = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = round(time.perf_counter() - start_s, 2)
    assert json.loads(done.stdout)["rows"] == MANY
    return {"pictures": MANY, "seconds": seconds,
            "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024}


def write_finished(given: Any) -> None:
    """Write the plan and the rows of a finished run."""
    from feredge.runtime.batch.listing import list_inputs
    from feredge.runtime.batch.plan import Plan
    from feredge.runtime.batch.schema import error_row, new_schema, table_bytes
    from feredge.runtime.batch.settings import check_settings, new_job
    from feredge.runtime.batch.storage import OutputFolder

    output = OutputFolder(given.output)
    check_settings(new_job(given), output)
    plan, schema = Plan(output), new_schema(["a", "b"], {})
    plan.add(list_inputs(given.sources), given.chunk)
    for task in plan.tasks(set()):
        rows = [error_row(unit, unit, "not measured") for unit in task.units]
        output.write(f"{task.chunk}.parquet", table_bytes(rows, schema))


def link_pictures(source: Path, folder: Path, count: int) -> Path:
    """Fill a folder with links to the pictures of another."""
    files = sorted(path for path in source.iterdir() if path.suffix in (".jpg", ".png"))
    for k in range(count):
        part = folder / f"{k // 1000:04}"
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{k:07}{files[k % len(files)].suffix}").symlink_to(files[k % len(files)].resolve())
    return folder


def batch_command(output: str, source: Path, engine: Path, ray: str) -> list[str]:
    """Return the command of a run."""
    return [sys.executable, "-m", "feredge.runtime.fer_batch", "--source", str(source),
            "--output", output, "--engine", str(engine), "--ray", ray, "--json"]


def measure_throughput(options: argparse.Namespace) -> Results:
    """Alternate fer-run, fer-batch on Ray and fer-batch on processes; starts are not counted."""
    rates: dict[str, list[float]] = {"fer-run": [], "ray": [], "processes": []}
    with tempfile.TemporaryDirectory() as folder:
        source = link_pictures(options.source, Path(folder) / "pictures", options.pictures)
        for number in range(options.rounds):
            lines = Path(folder) / f"{number}.jsonl"
            run = [sys.executable, "-m", "feredge.runtime.fer_run", "--source", str(source),
                   "--engine", str(options.engine), "--jsonl", str(lines), "--json"]
            rates["fer-run"].append(rate_of(run, "frames_per_s"))
            for name, ray in (("ray", "local"), ("processes", "none")):
                command = batch_command(f"{folder}/{name}{number}", source, options.engine, ray)
                rates[name].append(rate_of(command, "rows_per_s"))
    ratios = {name: round(median(b / a for a, b in zip(rates["fer-run"], rates[name])), 3)
              for name in ("ray", "processes")}
    return {"pictures": options.pictures, "pictures_per_s": rates, "of_fer_run": ratios}


def rate_of(command: list[str], name: str) -> float:
    """Run a command and return a number of its summary."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[name])


PARTS: dict[str, Callable[[argparse.Namespace], Results]] = {
    "throughput": measure_throughput, "tasks": lambda _: measure_tasks(), "resume": measure_resume,
    "kills": measure_kill_rows,
}


def measure(options: argparse.Namespace) -> Results:
    """Measure the parts, and keep the others."""
    known = options.json is not None and options.json.is_file()
    before = json.loads(options.json.read_text()) if known else {}
    kept = {part: before[part] for part in PARTS if part in before}
    results = {**kept, **{part: PARTS[part](options) for part in options.parts}}
    if options.plot:
        plot_timeline(results["kills"]["timeline"], options.plot)
    return results


def describe(results: Results) -> str:
    """Return the results as text."""
    return "\n".join(f"{part}: {json.dumps(results[part])}" for part in PARTS if part in results)


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
