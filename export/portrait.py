"""The public-domain portrait that matplotlib ships: a real face where none was given.

Run as a module, it prints the picture's path.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from feredge.runtime.results import Array

FACE_XYXY = (176.0, 113.0, 353.0, 325.0)  # Grace Hopper's face in the picture, px


def portrait_path() -> Path | None:
    """Return the path of `grace_hopper.jpg`, or None where matplotlib is not installed."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    return path if path.is_file() else None


def portrait_face() -> tuple[Array, Array] | None:
    """Return the picture, `(h, w, 3)` uint8 BGR, and the face's box, `(1, 4)`; None if absent."""
    from feredge.runtime.sources.pictures import read_picture

    path = portrait_path()
    return None if path is None else (read_picture(path), np.array([FACE_XYXY]))


if __name__ == "__main__":
    print(portrait_path() or "")
