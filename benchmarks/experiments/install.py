"""What a device has to install, and how fast it answers: the runtime alone, in a new venv.

Usage: `python -m feredge.benchmarks.experiments.install REPOSITORY [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from feredge.benchmarks.eval.records import write_results

# Not counted as part of the installation: a new venv brings it itself.
OWN = {"pip", "setuptools"}


def main(argv: Sequence[str] | None = None) -> int:
    """Install into a new venv, list and weigh it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        empty = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        subprocess.run([python, "-m", "pip", "install", "--quiet", options.repository], check=True)
        listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"],
                                check=True, capture_output=True, text=True).stdout
        full = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        started = {
            "import_s": started_s([python, "-c", "import feredge.runtime"]),
            "help_s": started_s([Path(folder) / "bin" / "fer-run", "--help"]),
        }
    packages = sorted(item["name"] for item in json.loads(listed) if item["name"] not in OWN)
    megabytes = (full - empty) / 1e6
    print(f"{megabytes:.0f} MB: {', '.join(packages)}; {started}")
    write_results(options.json, {"megabytes": megabytes, "packages": packages, **started})
    return 0


def started_s(command: Sequence[str | Path]) -> float:
    """Return the median seconds of a whole process, of seven after one to warm up."""
    seconds = []
    for _ in range(8):
        start_s = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start_s)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    sys.exit(main())
