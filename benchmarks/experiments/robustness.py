"""Generated inputs through every parser: tracebacks, crashes, hangs, memory, invalid JSON.

Usage: `python -m feredge.benchmarks.experiments.robustness TESTS [--examples 100000]
[--only FILE ...] [--json FILE]`

TESTS is `tests/fuzz` of a checkout. Each of its files runs in a process of its own, so that a crash
ends one file only; the examples are shared equally among the tests that generate their inputs.
`--only FILE ...` runs some files and keeps the results of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.benchmarks.experiments.processes import run_process

LONGEST_S, MOST_MB = 10.0, 2000.0
FILE_TIMEOUT_S = 3600
KINDS = ("traceback", "crash", "hang", "memory", "invalid JSON")


def generating_tests(folder: Path) -> list[str]:
    """Return the names of the tests that generate their inputs."""
    with tempfile.TemporaryDirectory() as name:
        record = Path(name) / "names.json"
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p",
                   "no:cacheprovider", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "FEREDGE_FUZZ_RECORD": str(record)})
        names: list[str] = json.loads(record.read_text())
        return names


def run_file(file: Path, examples: int, folder: Path) -> dict[str, Any]:
    """Run the tests of one file; returns their records, exit code and peak of resident memory.

    Args:
        file: the tests.
        examples: per test.
        folder: for the temporary files of the tests.
    """
    record = folder / f"{file.stem}.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "0",
               "--basetemp", str(folder / file.stem), str(file)]
    environment = {**os.environ, "FEREDGE_FUZZ_EXAMPLES": str(examples),
                   "FEREDGE_FUZZ_RECORD": str(record)}
    usage = run_process(command, FILE_TIMEOUT_S, environment)
    tests = json.loads(record.read_text()) if record.is_file() else {}
    return {"file": file.name, "examples_per_test": examples, "exit_code": usage.exit_code,
            "peak_mb": usage.peak_mb, "tests": tests}


def problems(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what one file's run found, each with a kind of `KINDS`."""
    found = [{"kind": kind, "test": name, "error": test["error"] or f"{test['longest_s']:.1f} s"}
             for name, test in run["tests"].items() if (kind := kind_of(test)) is not None]
    if run["exit_code"] not in (0, 1):
        found.append({"kind": "crash", "test": run["file"], "error": f"exit code "
                      f"{run['exit_code']} after {len(run['tests'])} tests"})
    if run["peak_mb"] > MOST_MB:
        found.append({"kind": "memory", "test": run["file"], "error": f"{run['peak_mb']:.0f} MB"})
    return found


def kind_of(test: Mapping[str, Any]) -> str | None:
    """Return the kind of a test's problem, None without one."""
    if test["longest_s"] > LONGEST_S:
        return "hang"
    if test["outcome"] != "failed":
        return None
    return "invalid JSON" if "JSONDecodeError" in (test["error"] or "") else "traceback"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("tests", type=Path)
    parser.add_argument("--examples", type=int, default=100_000, help="of all tests together")
    parser.add_argument("--only", nargs="+", default=[], metavar="FILE", help="names of files")


def previous_runs(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the runs of FILE by the file of tests, if only some files run."""
    if not (options.only and options.json and options.json.is_file()):
        return {}
    return {run["file"]: run for run in json.loads(options.json.read_text())["files"]}


def measure(options: argparse.Namespace) -> Results:
    """Run every file, or those that were asked for."""
    each = -(-options.examples // len(generating_tests(options.tests)))
    runs = previous_runs(options)
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted(options.tests.glob("test_*.py")):
            if not options.only or file.name in options.only:
                runs[file.name] = run_file(file, each, Path(folder))
    return summarize([runs[name] for name in sorted(runs)])


def summarize(runs: Sequence[dict[str, Any]]) -> Results:
    """Return the totals of all files, and their problems."""
    found = [problem for run in runs for problem in problems(run)]
    counts = Counter(problem["kind"] for problem in found)
    tests = [test for run in runs for test in run["tests"].values()]
    return {
        "examples": sum(test["examples"] for test in tests), "tests": len(tests),
        "longest_s": max((test["longest_s"] for test in tests), default=0.0),
        "peak_mb": max(run["peak_mb"] for run in runs),
        "found": {kind: counts[kind] for kind in KINDS}, "problems": found, "files": list(runs),
    }


def describe(results: Results) -> str:
    """Return the results as text."""
    counts = ", ".join(f"{count} x {kind}" for kind, count in results["found"].items())
    lines = [f"{results['examples']:,} inputs, {results['tests']} tests: {counts}; longest call "
             f"{results['longest_s']:.1f} s, peak {results['peak_mb']:.0f} MB"]
    lines += [f"{problem['kind']}: {problem['test']}: {problem['error']}"
              for problem in results["problems"]]
    return "\n".join(lines)


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
