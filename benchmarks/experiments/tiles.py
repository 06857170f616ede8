"""Detection on overlapping tiles of a picture, to compare it with the whole picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from feredge.runtime.detect import DetectorOptions, open_detector
from feredge.runtime.detect.yunet import YuNetDetector, suppress_overlaps
from feredge.runtime.results import Array

MIN_FACE_PX = 16  # the smallest face, in px of the picture
OVERLAP = 0.15  # of a tile's side, with its neighbor
EDGE_PX = 2  # a box that ends so close to an inner edge of its tile is cut: the neighbor has it


@dataclass(frozen=True)
class Found:
    """The boxes of each picture, `(n, 4)` xyxy, and the CPU time per picture."""

    boxes: list[Array]
    ms: float


def measure_tiles(pictures: Sequence[Array], file: Path) -> dict[str, Found]:
    """Detect faces of 16 px on whole pictures and on four tiles at the same scale, on one thread.

    Args:
        pictures: `(h, w, 3)` uint8 each.
        file: the detector.
    """
    options = DetectorOptions(file, min_face_px=MIN_FACE_PX)
    with open_detector(options, threads=1) as detector:
        assert isinstance(detector, YuNetDetector)
        return {"whole": measure(pictures, lambda picture: detector.detect(picture).boxes_xyxy),
                "tiles": measure(pictures, lambda picture: on_tiles(detector, picture))}


def measure(pictures: Sequence[Array], detect: Callable[[Array], Array]) -> Found:
    """Return the boxes of all pictures and the mean CPU time of one."""
    detect(pictures[0])
    start_s = time.process_time()
    boxes = [detect(picture) for picture in pictures]
    return Found(boxes, 1e3 * (time.process_time() - start_s) / len(pictures))


def on_tiles(detector: YuNetDetector, picture_bgr: Array) -> Array:
    """Return the boxes that are found on 2x2 tiles, `(n, 4)` xyxy in px of the picture."""
    size_px, longer = detector.size.of(picture_bgr.shape), max(picture_bgr.shape[:2])
    parts, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    for rows, columns in product(*(halves(side) for side in picture_bgr.shape[:2])):
        tile = picture_bgr[rows, columns]
        faces = detector.detect_at(tile, round(max(tile.shape[:2]) * size_px / longer))
        offset = np.array([columns.start, rows.start] * 2, np.float32)
        boxes = faces.boxes_xyxy + offset
        uncut = is_uncut(boxes, (rows, columns), picture_bgr.shape)
        parts.append(boxes[uncut])
        scores.append(faces.scores[uncut])
    boxes = np.concatenate(parts)
    kept: Array = boxes[suppress_overlaps(boxes, np.concatenate(scores))]
    return kept


def halves(side: int) -> tuple[slice, slice]:
    """Return two overlapping parts of a side."""
    part = round(side / 2 * (1 + OVERLAP))
    return slice(0, part), slice(side - part, side)


def is_uncut(boxes: Array, tile: tuple[slice, slice], shape: tuple[int, ...]) -> Array:
    """Return which boxes end inside their tile, or at the picture's own edge, `(n,)` bool."""
    rows, columns = tile
    low = [(start + EDGE_PX if start else -np.inf) for start in (columns.start, rows.start)]
    high = [(stop - EDGE_PX if stop < side else np.inf)
            for stop, side in ((columns.stop, shape[1]), (rows.stop, shape[0]))]
    edges = np.hstack([boxes[:, :2] > low, boxes[:, 2:] < high])
    return np.asarray(edges.all(axis=1))
