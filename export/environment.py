"""On what an export was made: the machine and the packages that its numbers belong to."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from feredge.runtime.machine import cores, cpu_name

PACKAGES = ("feredge", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy",
            "opencv-python", "opencv-python-headless")


def environment() -> dict[str, Any]:
    """Return CPU, system, Python and the versions of the packages that are installed."""
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := version_of(name))},
    }


def version_of(package: str) -> str | None:
    """Return the version of a distribution; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
