"""Calibration faces: a folder of pictures as batches of normalized crops."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from feredge.calibration.class_folders import UNKNOWN, class_folder, class_ids
from feredge.calibration.face_reader import FaceReader
from feredge.runtime.detect.base import Detector
from feredge.runtime.errors import CalibrationError
from feredge.runtime.results import Array
from feredge.runtime.sources.pictures import find_pictures
from feredge.runtime.spec import CropSpec, InputSpec

BATCH = 8  # at 224 px every session that runs 32 of them would keep gigabytes
RECOMMENDED = 500  # NVIDIA recommends 500 images and more for the ranges of a CNN


class FaceFolder:
    """The faces of a folder, cropped and normalized as the runtime does it, read at every pass.

    A picture is one face crop, taken whole; with a detector it is a scene, and all its faces
    count. A picture that cannot be read is skipped with a warning.

    Args:
        folder: pictures, also in subfolders; a subfolder named after a class labels its pictures.
        input: how crops are normalized.
        crop: how a face box becomes a square.
        detector: finds the faces of scenes; None for face crops.
        recommended: a warning is given for fewer pictures; 0 where no ranges are measured.

    Raises:
        CalibrationError: there is no such folder, or it has no pictures.
    """

    def __init__(
        self, folder: str | Path, input: InputSpec, crop: CropSpec,
        detector: Detector | None = None, recommended: int = RECOMMENDED,
    ) -> None:
        self.folder, self.input, self.crop = Path(folder), input, crop
        self.reader = FaceReader(detector)
        if not self.folder.is_dir():
            raise CalibrationError(f"faces {folder}: there is no such folder")
        self.files = find_pictures(self.folder)
        self.warned: set[Path] = set()
        if not self.files:
            raise CalibrationError(f"{folder} holds no pictures of faces")
        if len(self.files) < recommended:
            warnings.warn(f"{len(self.files)} pictures in {folder}; {recommended} or more are "
                          "recommended for INT8 ranges", stacklevel=2)

    def sha256(self) -> str:
        """Return the hash of the pictures' contents, in the order of their names."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    def classes_of(self, labels: Sequence[str]) -> Array:
        """Return the class of every file, `(files,)` int64: -1 where its folder is no class.

        A folder is named after a label or a synonym of it, with or without a number: `Angry`,
        `4_anger`. Where some folders are classes, a warning names those that are not.
        """
        names = [class_folder(file, self.folder) for file in self.files]
        classes = class_ids(names, labels)
        others = {name for name, number in zip(names, classes) if name and number == UNKNOWN}
        if others and (classes != UNKNOWN).any() and self.folder not in self.warned:
            self.warned.add(self.folder)
            warnings.warn(f"{self.folder}: faces in {', '.join(sorted(others))} count as unlabeled,"
                          f" as these are no classes of the network ({', '.join(labels)})",
                          stacklevel=2)
        return classes

    def batches(self) -> Iterator[Array]:
        """Yield `(n, 3, side, side)` float32 crops, at most `BATCH` at a time.

        Raises:
            CalibrationError: no picture has a face.
        """
        return (crops for crops, _ in self.labeled_batches(()))

    def labeled_batches(self, labels: Sequence[str]) -> Iterator[tuple[Array, Array]]:
        """Yield crops as `batches` does, each time with their classes, `(n,)` int64.

        Args:
            labels: the classes in order; a face whose folder is none of them has class -1.

        Raises:
            CalibrationError: no picture has a face.
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
        """Yield each picture's crops, `(n, 3, side, side)` float32, and the class of its folder."""
        for file, number in zip(self.files, self.classes_of(labels).tolist()):
            found = self.reader.read(file)
            if found is not None:
                yield found.crops(self.input, self.crop), number
            elif file in self.reader.broken and file not in self.warned:
                self.warned.add(file)
                warnings.warn(f"skipped: {self.reader.broken[file]}", stacklevel=2)
