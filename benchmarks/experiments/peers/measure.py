"""Run inside a peer's venv, by its own Python: classify the pictures of a request, and tell.

Usage: `python measure.py RUNNER REQUEST.json`; the answer is the last line of stdout, as JSON.

RUNNER is a file beside this one, with `opened(request)` that returns two functions from a picture,
`(h, w, 3)` uint8 BGR, to a label: of the largest or best face in a scene (None without one), and of
a picture that is a face crop. Neither this file nor a peer's imports feredge.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any


def resident_mb() -> float:
    """Return this process's resident memory, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measured(runner: str, request: dict[str, Any]) -> dict[str, Any]:
    """Classify everything that is asked for; reading pictures is not timed."""
    import cv2

    scene_label, crop_label = importlib.import_module(runner).opened(request)
    scene_label(cv2.imread(request["scenes"][0]))
    first_at_s = time.time()
    labels, seconds = [], 0.0
    for path in request["scenes"]:
        picture = cv2.imread(path)
        start_s = time.perf_counter()
        labels.append(scene_label(picture))
        seconds += time.perf_counter() - start_s
    return {
        "first_at_s": first_at_s, "scene_s": seconds, "resident_mb": resident_mb(),
        "scenes": labels, "crops": [crop_label(cv2.imread(path)) for path in request["crops"]],
        "versions": {item.metadata["Name"]: item.version for item in distributions()},
    }


if __name__ == "__main__":
    answer = measured(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
    print("\n" + json.dumps(answer), flush=True)
