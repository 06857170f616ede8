"""Size, start-up time and memory of the installed runtime, in a new virtual environment.

Usage: `python -m feredge.benchmarks.experiments.install REPOSITORY [--json FILE]`

The picture is the portrait of matplotlib, classified by `fer-run --source PICTURE` with the bundled
detector and network; times are those of whole processes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.benchmarks.experiments.processes import startup_s, usage_of
from feredge.export.portrait import portrait_path

# Not counted: every new virtual environment has them.
OWN = {"pip", "setuptools"}


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def package_names(python: Path) -> list[str]:
    """Return the names of the packages in an environment, sorted."""
    text = subprocess.run([python, "-m", "pip", "list", "--format", "json"], check=True,
                          capture_output=True, text=True).stdout
    return sorted(item["name"] for item in json.loads(text) if item["name"] not in OWN)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("repository", type=Path)


def measure(options: argparse.Namespace) -> Results:
    """Install into a new environment, and measure it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder, with_pip=True)
        python, empty = folder / "bin" / "python", folder_bytes(folder)
        subprocess.run([python, "-m", "pip", "install", "--quiet", options.repository], check=True)
        picture: list[str | Path] = [folder / "bin" / "fer-run", "--source", str(portrait_path()),
                                     "--no-display", "--jsonl", folder / "faces.jsonl"]
        usage = usage_of(picture)
        return {
            "megabytes": (folder_bytes(folder) - empty) / 1e6, "packages": package_names(python),
            "import_s": startup_s([python, "-c", "import feredge.runtime"]),
            "help_s": startup_s([folder / "bin" / "fer-run", "--help"]),
            "picture_s": startup_s(picture), "picture_cpu_s": usage.cpu_s,
            "picture_resident_mb": usage.peak_mb,
        }


def describe(results: Results) -> str:
    """Return the results as text."""
    return (f"{results['megabytes']:.0f} MB: {', '.join(results['packages'])}; import "
            f"{results['import_s']:.2f} s, --help {results['help_s']:.2f} s, a picture "
            f"{results['picture_s']:.2f} s ({results['picture_cpu_s']:.2f} s of CPU) with "
            f"{results['picture_resident_mb']:.0f} MB resident")


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
