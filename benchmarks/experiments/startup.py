"""How long fer-run takes to its first result on a picture, and which imports cost the most.

Usage: `python -m feredge.benchmarks.experiments.startup --engine ENGINE [--detector PATH]
[--json FILE]`

Whole processes are timed, from their start to their end, against those that do a part of the work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from feredge.benchmarks.eval.records import write_results
from feredge.benchmarks.experiments.install import started_s
from feredge.export.portrait import portrait_path
from feredge.runtime.detect.weights import detector_path

TOP = 12
# What the whole is made of: each process does what the one before it does, and more.
PARTS = {
    "python": "pass",
    "numpy": "import numpy",
    "numpy and OpenCV": "import numpy, cv2",
    "numpy, OpenCV and onnxruntime": "import numpy, cv2, onnxruntime",
}


def picture_command(engine: Path, detector: Path) -> list[str]:
    """Return the command that classifies the portrait that matplotlib ships."""
    picture = portrait_path()
    assert picture is not None, "matplotlib is not installed"
    return ["-m", "feredge.runtime.fer_run", "--engine", str(engine), "--detector", str(detector),
            "--source", str(picture), "--no-display", "--jsonl", "-"]


def slowest_imports(command: Sequence[str]) -> dict[str, float]:
    """Return the milliseconds of the costliest modules, their own imports not counted."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True,
                          text=True, check=True)
    return parsed(done.stderr)


def parsed(trace: str) -> dict[str, float]:
    """Read what `-X importtime` printed: `import time: self us | cumulative | name`."""
    rows = [line.removeprefix("import time:").split("|") for line in trace.splitlines()
            if line.startswith("import time:") and "self [us]" not in line]
    own = {name.strip(): int(microseconds) / 1e3 for microseconds, _, name in rows}
    return dict(sorted(own.items(), key=lambda item: -item[1])[:TOP])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", required=True, type=Path)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    command = picture_command(options.engine, detector_path(options.detector))
    whole_s = started_s([sys.executable, *command])
    parts_s = {name: started_s([sys.executable, "-c", code]) for name, code in PARTS.items()}
    imports_ms = slowest_imports(command)
    print(f"{options.engine.name}: {whole_s:.2f} s to the first result on a picture; "
          + ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts_s.items()))
    print("imports, ms: " + ", ".join(f"{name} {ms:.0f}" for name, ms in imports_ms.items()))
    write_results(options.json, {"engine": options.engine.name, "picture_s": whole_s,
                                 "parts_s": parts_s, "imports_ms": imports_ms})
    return 0


if __name__ == "__main__":
    sys.exit(main())
