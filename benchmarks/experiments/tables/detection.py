"""The table of the face detectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feredge.benchmarks.bench.text import markdown_table

NAMES = {"bundled": "bundled", "yunet": "YuNet"}
PARTS = ("20 px and more", "12 to 20 px")


def detectors(results: dict[str, dict[str, Any]]) -> str:
    """Return recall by face size, false boxes and speed, and the detectors on photos."""
    found = results["detectors"]
    rows = [["detector size", "detector", *(f"recall, {part}" for part in PARTS),
             "false boxes per picture", "mean IoU", "one thread"]]
    rows += [detector_cells(row, name) for row in found["groups"] for name in NAMES]
    return "\n".join([markdown_table(rows), "", *sentences(found)])


def detector_cells(row: dict[str, Any], name: str) -> list[str]:
    """Return the row of one detector at one size."""
    scores = row[name]
    recalls = [f"{scores['recall'][part]:.1%} of {scores['faces'][part]}" for part in PARTS]
    return [f"{row['size_px']} px", NAMES[name], *recalls,
            f"{scores['false_boxes_per_picture']:.2f}", f"{scores['mean_iou']:.3f}",
            f"{scores['ms_per_picture']:.0f} ms"]


def sentences(found: dict[str, Any]) -> Iterator[str]:
    """Yield the agreement of the boxes, and the detectors on photos with one face."""
    agreed = [f"{row['agreement']['share']:.1%} at {row['size_px']} px"
              for row in found["groups"]]
    yield f"Of YuNet's own boxes the bundled detector has {', '.join(agreed)}."
    photos = [f"{NAMES[name]} {row['with_face']:.1%} and {row['accuracy']:.1%}"
              for name, row in found["photos"].items()]
    yield (f"On {found['photos']['bundled']['pictures']} photos of one face, share with a face and "
           f"share of right labels: {', '.join(photos)}.")
