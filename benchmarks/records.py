"""Results files: what was measured, and on what machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "onnxruntime", "opencv-python")


def environment() -> dict[str, Any]:
    """Return the machine and the packages that a number belongs to."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": {name: version(name) for name in PACKAGES},
    }


def cpu_name() -> str:
    """Return the CPU's name and the extensions that matter for INT8, as Linux tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in pairs}
    extensions = [name for name in ("avx2", "avx512_vnni", "avx_vnni")
                  if name in fields.get("flags", "").split()]
    return f"{fields.get('model name', 'unknown')} ({', '.join(extensions)})"


def write_results(path: Path | None, results: Mapping[str, Any]) -> None:
    """Write results with the environment beside them; None prints nothing and writes nothing."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {**results, "environment": environment()}
        path.write_text(json.dumps(document, indent=1) + "\n")
