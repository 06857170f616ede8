"""Results files: measurements, and the machine they were made on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feredge.benchmarks.bench.sensors import sensors
from feredge.runtime.files import atomic_write, check_folder
from feredge.runtime.machine import describe_machine

# Distributions by the module that shows their use.
PACKAGES = {
    "numpy": "numpy", "onnxruntime": "onnxruntime", "cv2": "opencv-python", "torch": "torch",
    "openvino": "openvino", "tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx_cu13",
    "pycuda": "pycuda",
}


def environment() -> dict[str, Any]:
    """Return the machine, its state, and the packages in use."""
    used = [name for module, name in PACKAGES.items() if module in sys.modules]
    return {**describe_machine(used), "sensors": sensors()}


def results_path(path: Path, conditions: str) -> Path:
    """Return the file for results; in a folder it is named after the conditions.

    Raises:
        OutputError: it cannot be written.
    """
    file = path / f"{conditions}.json" if path.is_dir() else path
    check_folder(file)
    return file


def write_results(path: Path | None, results: Mapping[str, Any]) -> None:
    """Write results and the environment to a file, atomically; None writes nothing."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {**results, "environment": environment()}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n")
