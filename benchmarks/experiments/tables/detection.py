"""The tables of the face detectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feredge.benchmarks.bench.text import markdown_table

NAMES = {"bundled": "bundled", "yunet": "YuNet"}
PARTS = ("20 px and more", "12 to 20 px")
HEADS = [*(f"recall, {part}" for part in PARTS), "false boxes per picture"]


def detectors(results: dict[str, dict[str, Any]]) -> str:
    """Return recall by face size, false boxes and speed, and the detectors on photos."""
    found = results["detectors"]
    rows = [["detector size", "detector", *HEADS, "mean IoU", "one thread"]]
    rows += [detector_cells(row, name) for row in found["groups"] for name in NAMES]
    return "\n".join([markdown_table(rows), "", *sentences(found)])


def min_scores(results: dict[str, dict[str, Any]]) -> str:
    """Return what `--min-score` gains and costs with the bundled detector."""
    rows = [["detector size", "`--min-score`", *HEADS]]
    rows += [[f"{size['size_px']} px", f"{row['min_score']:g}", *score_cells(row)]
             for size in results["detectors"]["min_scores"] for row in size["rows"]]
    return markdown_table(rows)


def small_faces(results: dict[str, dict[str, Any]]) -> str:
    """Return whole pictures against tiles where faces of 16 px are to be found."""
    heads = {"whole": "whole picture", "tiles": "four overlapping tiles"}
    rows = [["`--min-face 16`", *(head.replace("recall,", "recall, faces of") for head in HEADS),
             "CPU time per picture"]]
    rows += [[head, *score_cells(results["detectors"]["small"][name]),
              f"{results['detectors']['small'][name]['ms_per_picture']:.0f} ms"]
             for name, head in heads.items()]
    return markdown_table(rows)


def score_cells(scores: dict[str, Any]) -> list[str]:
    """Return recall by size and the false boxes."""
    recalls = [f"{scores['recall'][part]:.1%} of {scores['faces'][part]}" for part in PARTS]
    return [*recalls, f"{scores['false_boxes_per_picture']:.2f}"]


def detector_cells(row: dict[str, Any], name: str) -> list[str]:
    """Return the row of one detector at one size."""
    scores = row[name]
    return [f"{row['size_px']} px", NAMES[name], *score_cells(scores), f"{scores['mean_iou']:.3f}",
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
