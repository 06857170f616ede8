"""Classify the pictures of a request with one peer, in the peer's own environment.

Usage: `python measure.py RUNNER REQUEST.json`; the last line of stdout is the result, as JSON.

RUNNER is a module beside this one whose `open_peer(request)` returns two functions from a picture,
`(h, w, 3)` uint8 BGR, to a label: of the largest or best face in a scene (None without a face), and
of a face crop. Neither this file nor the runner of another package imports feredge.
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
    """Return the resident memory of this process from Linux's /proc, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(runner: str, request: dict[str, Any]) -> dict[str, Any]:
    """Classify all pictures of the request; reading them is not timed."""
    import cv2

    scene_label, crop_label = importlib.import_module(runner).open_peer(request)
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
    result = measure(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
    print("\n" + json.dumps(result), flush=True)
