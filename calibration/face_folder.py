"""Calibration faces: a folder of pictures as batches of normalised crops."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from feredge.runtime.detect.base import Detector
from feredge.runtime.errors import CalibrationError, SourceError
from feredge.runtime.preprocess.geometry import whole_picture
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array
from feredge.runtime.sources.pictures import find_pictures, read_picture
from feredge.runtime.spec import CropSpec, InputSpec

BATCH = 8  # at 224 px every session that sees 32 of them would keep gigabytes
RECOMMENDED = 500  # below it the ranges of a CNN rest on too few faces (facts: NVIDIA, 500 and up)


class FaceFolder:
    """The faces of a folder, cut and normalised as the runtime does it, read anew at each pass.

    A picture is one face crop, taken whole; with a detector it is a scene, and every face in it
    counts. Broken pictures are left out and named in a warning, as are fewer than `recommended`:
    0 where no ranges are made of them.
    """

    def __init__(
        self, folder: str | Path, input: InputSpec, crop: CropSpec,
        detector: Detector | None = None, recommended: int = RECOMMENDED,
    ) -> None:
        self.folder, self.input, self.crop, self.detector = Path(folder), input, crop, detector
        if not self.folder.is_dir():
            raise CalibrationError(f"faces {folder}: there is no such folder")
        self.files = find_pictures(self.folder)
        self.broken: set[Path] = set()
        if not self.files:
            raise CalibrationError(f"{folder} holds no pictures of faces")
        if len(self.files) < recommended:
            warnings.warn(f"{len(self.files)} pictures in {folder}; INT8 ranges are dependable "
                          f"from {recommended} faces on", stacklevel=2)

    def sha256(self) -> str:
        """Return the hash of the pictures' contents, in the order of their names."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    def classes_of(self, labels: Sequence[str]) -> Array:
        """Return the class of every file, `(files,)` int64: -1 where its folder is no label.

        A folder is called after a label, also with a number before it: `0_neutral`.
        """
        numbers = {label: k for k, label in enumerate(labels)}
        names = [file.parent.name for file in self.files]
        plain = [re.sub(r"^\d+_", "", name) for name in names]
        found = [numbers.get(name, numbers.get(rest, -1)) for name, rest in zip(names, plain)]
        return np.array(found, np.int64)

    def batches(self) -> Iterator[Array]:
        """Yield `(n, 3, side, side)` float32 crops, at most `BATCH` at a time.

        Raises:
            CalibrationError: no picture holds a face.
        """
        return (crops for crops, _ in self.labeled_batches(()))

    def labeled_batches(self, labels: Sequence[str]) -> Iterator[tuple[Array, Array]]:
        """Yield crops as `batches` does, each time with their classes, `(n,)` int64.

        Args:
            labels: the classes in order; -1 is a face whose folder is called after none of them.

        Raises:
            CalibrationError: no picture holds a face.
        """
        waiting: list[tuple[Array, Array]] = []
        total = 0
        for crops, number in self.labeled_crops(labels):
            waiting.append((crops, np.full(len(crops), number, np.int64)))
            total += len(crops)
            while sum(len(crops) for crops, _ in waiting) >= BATCH:
                crops, classes = map(np.concatenate, zip(*waiting))
                yield crops[:BATCH], classes[:BATCH]
                waiting = [(crops[BATCH:], classes[BATCH:])]
        if not total:
            raise CalibrationError(f"no face could be read from the {len(self.files)} pictures in "
                                   f"{self.folder}")
        crops, classes = map(np.concatenate, zip(*waiting))
        if len(crops):
            yield crops, classes

    def labeled_crops(self, labels: Sequence[str]) -> Iterator[tuple[Array, int]]:
        """Yield the crops of one picture after the other, and the class of its folder."""
        for file, number in zip(self.files, self.classes_of(labels).tolist()):
            try:
                picture = read_picture(file)
            except SourceError as error:
                if file not in self.broken:
                    self.broken.add(file)
                    warnings.warn(f"left out: {error}", stacklevel=2)
                continue
            if self.detector is None:
                box, whole = whole_picture(picture.shape)
                yield crop_faces(picture, box, self.input, whole), number
            else:
                faces = self.detector.detect(picture).within(picture.shape)
                yield crop_faces(picture, faces.boxes_xyxy, self.input, self.crop), number
