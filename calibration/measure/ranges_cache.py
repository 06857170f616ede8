"""Ranges measured before: kept by the content of what they were measured on."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from feredge.calibration.measure.methods import METHODS
from feredge.calibration.ranges import FORMAT, Ranges
from feredge.runtime.environment import cache_folder
from feredge.runtime.errors import CalibrationError, OutputError
from feredge.runtime.files import atomic_write


def cache_path(identity: Mapping[str, Any]) -> Path:
    """Return where the ranges of these weights, faces, crop and input are kept."""
    text = json.dumps({"format": FORMAT, **identity}, sort_keys=True)
    return cache_folder() / "ranges" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def load_ranges(path: Path, keys: Collection[str]) -> Ranges | None:
    """Return the ranges kept at a path; None where they are missing, damaged or incomplete.

    Args:
        path: from `cache_path`.
        keys: the tensors that must be covered, by every method.
    """
    try:
        ranges = Ranges.from_json(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, CalibrationError) as error:
        warnings.warn(f"cached ranges {path} are left out, the faces are measured again: {error}",
                      stacklevel=2)
        return None
    covered = all(set(METHODS) <= set(ranges.values.get(key, ())) for key in keys)
    return ranges if covered else None


def store_ranges(path: Path, ranges: Ranges) -> None:
    """Keep ranges for the next time; a warning says where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            beside.write_text(ranges.to_json())
    except (OSError, OutputError) as error:
        warnings.warn(f"the ranges could not be kept for the next export: {error}", stacklevel=2)
