"""Clips of real faces with random changes in place, angle, size and brightness in every frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from feredge.calibration.labeled import pictures_in_folders
from feredge.runtime.results import Array
from feredge.runtime.sources.pictures import read_picture

FPS, SHAPE = 25, (480, 640)
SIDE, MARGIN = 170, 40  # of a face, and the room around it for its movement, px
PLACES = ((60, 40), (380, 40), (60, 260), (380, 260))  # of the four faces, top left
SEED = 0


def draw_faces(folder: Path, count: int) -> Iterator[list[Array]]:
    """Yield without end `count` random faces of different classes, `(h, w, 3)` uint8 each."""
    data, rng = pictures_in_folders(folder), np.random.default_rng(SEED)
    files: dict[str, list[Path]] = {}
    for file, name in zip(data.files, data.classes):
        files.setdefault(name, []).append(file)
    while True:
        names = rng.choice(sorted(files), count, replace=False)
        yield [read_picture(files[name][int(rng.integers(len(files[name])))]) for name in names]


@dataclass
class Jitter:
    """Changes from frame to frame: standard deviations, and slow movement in px."""

    shift_px: float = 1.5
    angle_deg: float = 2.0
    size: float = 0.015
    light: float = 0.05
    slow_px: float = 25.0


STILL = Jitter(0, 0, 0, 0, 0)


def paste_face(face: Array, frame_bgr: Array, place: tuple[int, int], k: int, jitter: Jitter,
        rng: np.random.Generator) -> None:
    """Draw a face into frame `k` with random changes; `frame_bgr` `(h, w, 3)` uint8 is modified."""
    middle, side = np.array(face.shape[1::-1]) / 2, SIDE + 2 * MARGIN
    size = SIDE / max(face.shape[:2]) * rng.normal(1, jitter.size)
    angle = rng.normal(0, jitter.angle_deg)
    matrix = np.array(cv2.getRotationMatrix2D(middle.tolist(), angle, size), np.float64)
    slow = jitter.slow_px * np.array([np.sin(k / 17 + place[1]), np.sin(k / 23 + place[0])])
    matrix[:, 2] += side / 2 - middle + slow + rng.normal(0, jitter.shift_px, 2)
    lit = np.clip(face * rng.normal(1, jitter.light), 0, 255).astype(np.uint8)
    mask = cv2.warpAffine(np.full(face.shape[:2], 255, np.uint8), matrix, (side, side)) > 127
    shown = cv2.warpAffine(lit, matrix, (side, side), flags=cv2.INTER_CUBIC,
                           borderMode=cv2.BORDER_REPLICATE)
    left, top = place[0] - MARGIN, place[1] - MARGIN
    frame_bgr[top : top + side, left : left + side][mask] = shown[mask]


def write_clip(path: Path, faces: Sequence[Sequence[Array]], seconds: float, seed: int,
               jitter: Jitter | None = None) -> None:
    """Write a clip: at each place its faces are shown one after the other for equal times."""
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, SHAPE[::-1])
    noises = rng.normal(0, 4, (8, *SHAPE, 3)).astype(np.float32)
    count = round(seconds * FPS)
    for k in range(count):
        frame = np.full((*SHAPE, 3), 110, np.uint8)
        for place, shown in zip(PLACES, faces):
            paste_face(shown[k * len(shown) // count], frame, place, k, jitter or Jitter(), rng)
        writer.write(np.clip(frame + noises[rng.integers(8)], 0, 255).astype(np.uint8))
    writer.release()
