"""The bundled face detector against YuNet: recall by face size, false boxes, labels, speed.

Usage: `python -m feredge.benchmarks.experiments.detectors --yunet FILE --engine FILE --groups DIR
--photos FILE [--json FILE]`

`--groups` holds pictures and `boxes.csv` (file, x0, y0, x1, y1, score, sure); a box that is not
sure counts neither as missed nor as found. `--photos` is a CSV as fer-eval takes it, with one face
a picture. A face's size is the longer side of its box on the detector's canvas.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.eval.evaluation import evaluate_engines
from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.benchmarks.experiments.tables import detection
from feredge.benchmarks.experiments.tiles import measure_tiles
from feredge.calibration.labeled import pictures_of_csv
from feredge.runtime.detect import Detector, DetectorOptions, open_detector
from feredge.runtime.engines import open_engine
from feredge.runtime.results import Array
from feredge.runtime.sources.pictures import read_picture

SIZES = (320, 640, 1280)
BINS = {"20 px and more": (20, np.inf), "12 to 20 px": (12, 20), "under 12 px": (0, 12)}
SAME, TOUCHES = 0.5, 0.3  # IoU of one face's boxes; of a box that belongs to a doubtful face
ROUNDS = 3
MIN_SCORES = (0.5, 0.55, 0.6, 0.65, 0.7)


@dataclass(frozen=True)
class Group:
    """A picture with its face boxes, `(n, 4)` xyxy, and which of them are sure, `(n,)` bool."""

    picture_bgr: Array
    boxes: Array
    sure: Array

    def sizes_px(self, size_px: int) -> Array:
        """Return the longer sides of the boxes on a canvas, `(n,)`."""
        ratio = size_px / max(self.picture_bgr.shape[:2])
        sides: Array = (self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1) * ratio
        return sides


def read_groups(folder: Path) -> list[Group]:
    """Read `boxes.csv` and its pictures."""
    rows: dict[str, list[dict[str, str]]] = {}
    with (folder / "boxes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["file"], []).append(row)
    corners = ("x0", "y0", "x1", "y1")
    return [Group(read_picture(folder / name),
                  np.array([[float(row[key]) for key in corners] for row in found]),
                  np.array([row["sure"] == "1" for row in found]))
            for name, found in rows.items()]


def ious(first: Array, second: Array) -> Array:
    """Return the IoU of every pair of boxes, `(n, m)`."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    overlap: Array = shared / (areas[0][:, None] + areas[1][None] - shared)
    return overlap


def match(truth: Array, found: Array) -> tuple[Array, Array]:
    """Pair boxes, `(n, 4)` and `(m, 4)`, one to one, best first.

    Returns:
        For each true box the IoU of its pair, 0 without; for each found box whether it has one.
    """
    overlap = ious(truth, found)
    matched, used = np.zeros(len(truth)), np.zeros(len(found), bool)
    for place in np.argsort(-overlap, axis=None):
        row, column = np.unravel_index(place, overlap.shape)
        if overlap[row, column] < SAME:
            break
        if not matched[row] and not used[column]:
            matched[row], used[column] = overlap[row, column], True
    return matched, used


def score_groups(groups: Sequence[Group], found: Sequence[Array], size_px: int) -> dict[str, Any]:
    """Return recall by face size, false boxes per picture and mean IoU; boxes are `(n, 4)`."""
    overlaps, sizes, false = [], [], 0
    for group, boxes in zip(groups, found):
        matched, used = match(group.boxes, boxes)
        overlaps.append(matched[group.sure])
        sizes.append(group.sizes_px(size_px)[group.sure])
        touching = (ious(boxes, group.boxes) >= TOUCHES).any(axis=1)
        false += int((~used & ~touching).sum())
    overlap, size = np.concatenate(overlaps), np.concatenate(sizes)
    rows = {name: (size >= low) & (size < high) for name, (low, high) in BINS.items()}
    return {
        "faces": {name: int(chosen.sum()) for name, chosen in rows.items()},
        "recall": {name: float((overlap[chosen] > 0).mean()) if chosen.any() else None
                   for name, chosen in rows.items()},
        "false_boxes_per_picture": false / len(groups),
        "mean_iou": float(overlap[overlap > 0].mean()) if overlap.any() else None,
    }


def box_agreement(reference: Sequence[Array], found: Sequence[Array]) -> dict[str, float]:
    """Return the share of one detector's boxes that another one has, too, and their mean IoU."""
    overlap = np.concatenate([match(theirs, ours)[0] for theirs, ours in zip(reference, found)])
    return {"share": float((overlap > 0).mean()), "mean_iou": float(overlap[overlap > 0].mean())}


def measure_groups(groups: Sequence[Group], files: dict[str, Path], size_px: int) -> Results:
    """Run the detectors alternately on every picture, with one thread."""
    detectors = {name: open_detector(DetectorOptions(file, size_px), threads=1)
                 for name, file in files.items()}
    boxes: dict[str, list[Array]] = {name: [] for name in files}
    seconds: dict[str, list[float]] = {name: [] for name in files}
    for group in groups:
        times: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(ROUNDS):
            for name, detector in detectors.items():
                start = time.perf_counter()
                faces = detector.detect(group.picture_bgr)
                times[name].append(time.perf_counter() - start)
                if len(times[name]) == 1:
                    boxes[name].append(faces.boxes_xyxy)
        for name in files:
            seconds[name].append(min(times[name]))
    scores = {name: {**score_groups(groups, boxes[name], size_px),
                     "ms_per_picture": 1e3 * float(np.median(seconds[name]))} for name in files}
    return {"size_px": size_px, **scores, "agreement": box_agreement(boxes["yunet"],
                                                                     boxes["bundled"])}


def measure_min_scores(groups: Sequence[Group], file: Path, size_px: int) -> Results:
    """Return recall and false boxes of one detector for several least scores."""
    with open_detector(DetectorOptions(file, size_px, MIN_SCORES[0]), threads=1) as detector:
        found = [detector.detect(group.picture_bgr) for group in groups]
    rows = [{"min_score": least, **score_groups(
        groups, [faces.boxes_xyxy[faces.scores >= least] for faces in found], size_px)}
        for least in MIN_SCORES]
    return {"size_px": size_px, "rows": rows}


def measure_small(groups: Sequence[Group], file: Path) -> Results:
    """Compare whole pictures with tiles where the smallest face is to be found."""
    pictures = [group.picture_bgr for group in groups]
    found = measure_tiles(pictures, file)
    long_side = max(max(picture.shape[:2]) for picture in pictures)  # sizes in px of the frame
    return {name: {**score_groups(groups, one.boxes, long_side), "ms_per_picture": one.ms}
            for name, one in found.items()}


def measure_photos(photos: Path, engine: Path, file: Path | None) -> Results:
    """Return how many photos have a face, and the share of right labels, at the default size."""
    detector: Detector
    with open_engine(engine) as network, open_detector(file) as detector:
        found = evaluate_engines(pictures_of_csv(photos), {engine.name: network}, detector)
    pictures = found.faces + len(found.without_face)
    return {"pictures": pictures, "with_face": found.faces / pictures,
            "accuracy": found.engines[0].scores.accuracy.value}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the experiment's arguments."""
    for name in ("--yunet", "--engine", "--groups", "--photos"):
        parser.add_argument(name, required=True, type=Path)


def measure(options: argparse.Namespace) -> Results:
    """Measure both detectors on groups and on photos."""
    from feredge.runtime.detect.weights import BUNDLED

    files = {"yunet": options.yunet, "bundled": BUNDLED}
    groups = read_groups(options.groups)
    return {
        "files": {name: file.name for name, file in files.items()}, "pictures": len(groups),
        "groups": [measure_groups(groups, files, size_px) for size_px in SIZES],
        "min_scores": [measure_min_scores(groups, BUNDLED, size_px) for size_px in SIZES[1:]],
        "small": measure_small(groups, BUNDLED),
        "photos": {name: measure_photos(options.photos, options.engine, file)
                   for name, file in files.items()},
    }


def describe(results: Results) -> str:
    """Return the table of the README."""
    return detection.detectors({"detectors": results})


if __name__ == "__main__":
    sys.exit(Experiment(__doc__, add_arguments, measure, describe).main())
