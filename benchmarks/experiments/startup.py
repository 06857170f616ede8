"""Time from the start of fer-run to the end of one picture, and its slowest imports.

Usage: `python -m feredge.benchmarks.experiments.startup --engine ENGINE [--detector PATH]
[--json FILE]`

Whole processes are timed, and compared with processes that only import a part of the packages.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from feredge.benchmarks.experiments.command import Experiment, Results, add_engine_arguments
from feredge.benchmarks.experiments.processes import startup_s
from feredge.export.portrait import portrait_path
from feredge.runtime.detect.weights import detector_path

TOP = 12
# Each process imports the packages of the one before it, and more.
PARTS = {
    "python": "pass",
    "numpy": "import numpy",
    "numpy and OpenCV": "import numpy, cv2",
    "numpy, OpenCV and onnxruntime": "import numpy, cv2, onnxruntime",
}


def picture_command(options: argparse.Namespace) -> list[str]:
    """Return the arguments of Python that classify the portrait of matplotlib."""
    picture = portrait_path()
    assert picture is not None, "matplotlib is not installed"
    return ["-m", "feredge.runtime.fer_run", "--engine", str(options.engine), "--detector",
            str(detector_path(options.detector)), "--source", str(picture), "--no-display",
            "--jsonl", "-"]


def slowest_imports(command: Sequence[str]) -> dict[str, float]:
    """Return the milliseconds of the slowest modules, without the modules that they import."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True,
                          text=True, check=True)
    return parse_trace(done.stderr)


def parse_trace(trace: str) -> dict[str, float]:
    """Parse the output of `-X importtime`: `import time: self us | cumulative | name`."""
    rows = [line.removeprefix("import time:").split("|") for line in trace.splitlines()
            if line.startswith("import time:") and "self [us]" not in line]
    own = {name.strip(): int(microseconds) / 1e3 for microseconds, _, name in rows}
    return dict(sorted(own.items(), key=lambda item: -item[1])[:TOP])


def measure(options: argparse.Namespace) -> Results:
    """Time the processes."""
    command = picture_command(options)
    return {
        "engine": options.engine.name, "picture_s": startup_s([sys.executable, *command]),
        "parts_s": {name: startup_s([sys.executable, "-c", code]) for name, code in PARTS.items()},
        "imports_ms": slowest_imports(command),
    }


def describe(results: Results) -> str:
    """Return the results as text."""
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in results["parts_s"].items())
    imports = ", ".join(f"{name} {ms:.0f}" for name, ms in results["imports_ms"].items())
    return (f"{results['engine']}: {results['picture_s']:.2f} s for a picture; {parts}\n"
            f"imports, ms: {imports}")


EXPERIMENT = Experiment(__doc__, add_engine_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
