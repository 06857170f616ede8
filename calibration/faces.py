"""Calibration faces: a folder of pictures as batches of normalised crops."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from feredge.runtime.detector import Detector
from feredge.runtime.errors import CalibrationError, SourceError
from feredge.runtime.faces import Array
from feredge.runtime.pictures import find_pictures, read_picture
from feredge.runtime.preprocess.geometry import whole_picture
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.spec import CropSpec, InputSpec

BATCH = 32
RECOMMENDED = 500  # below it the ranges of a CNN rest on too few faces (facts: NVIDIA, 500 and up)


class FaceFolder:
    """The faces of a folder, cut and normalised as the runtime does it, read anew at each pass.

    A picture is one face crop, taken whole; with a detector it is a scene, and every face in it
    counts. Broken pictures are left out and named in a warning.
    """

    def __init__(
        self, folder: str | Path, input: InputSpec, crop: CropSpec, detector: Detector | None = None
    ) -> None:
        self.folder, self.input, self.crop, self.detector = Path(folder), input, crop, detector
        if not self.folder.is_dir():
            raise CalibrationError(f"calibration data {folder}: there is no such folder")
        self.files = find_pictures(self.folder)
        self.broken: set[Path] = set()
        if not self.files:
            raise CalibrationError(f"calibration data {folder} holds no pictures of faces")
        if len(self.files) < RECOMMENDED:
            warnings.warn(f"{len(self.files)} pictures in {folder}; INT8 ranges are dependable "
                          f"from {RECOMMENDED} faces on", stacklevel=2)

    def sha256(self) -> str:
        """Return the hash of the pictures' contents, in the order of their names."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    def batches(self) -> Iterator[Array]:
        """Yield `(n, 3, side, side)` float32 crops, at most `BATCH` at a time.

        Raises:
            CalibrationError: no picture holds a face.
        """
        waiting: list[Array] = []
        total = 0
        for crops in self.crops():
            waiting.append(crops)
            total += len(crops)
            if sum(map(len, waiting)) >= BATCH:
                joined = np.concatenate(waiting)
                yield joined[:BATCH]
                waiting = [joined[BATCH:]]
        if waiting and sum(map(len, waiting)):
            yield np.concatenate(waiting)
        if not total:
            raise CalibrationError(f"no face could be read from the {len(self.files)} pictures in "
                                   f"{self.folder}")

    def crops(self) -> Iterator[Array]:
        """Yield the crops of one picture after the other."""
        for file in self.files:
            try:
                picture = read_picture(file)
            except SourceError as error:
                if file not in self.broken:
                    self.broken.add(file)
                    warnings.warn(f"left out: {error}", stacklevel=2)
                continue
            if self.detector is None:
                box, whole = whole_picture(picture.shape)
                yield crop_faces(picture, box, self.input, whole)
            else:
                boxes = self.detector.detect(picture).boxes_xyxy
                yield crop_faces(picture, boxes, self.input, self.crop)
