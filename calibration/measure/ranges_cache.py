"""The cache of measured ranges, keyed by weights, faces, crop and input."""

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
    """Return the cache file of the ranges of these weights, faces, crop and input."""
    text = json.dumps({"format": FORMAT, **identity}, sort_keys=True)
    return cache_folder() / "ranges" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def load_ranges(path: Path, keys: Collection[str]) -> Ranges | None:
    """Return cached ranges; None where they are missing, damaged or incomplete.

    Args:
        path: from `cache_path`.
        keys: the tensors that must be included, by every method.
    """
    try:
        ranges = Ranges.from_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, CalibrationError) as error:
        warnings.warn(f"cached ranges {path} are ignored, the faces are measured again: {error}",
                      stacklevel=2)
        return None
    covered = all(set(METHODS) <= set(ranges.values.get(key, ())) for key in keys)
    return ranges if covered else None


def store_ranges(path: Path, ranges: Ranges) -> None:
    """Store ranges in the cache; a warning is given where they cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            beside.write_text(ranges.to_json())
    except (OSError, OutputError) as error:
        warnings.warn(f"the ranges could not be cached for the next export: {error}", stacklevel=2)
