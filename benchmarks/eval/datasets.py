"""Public data sets in the layouts in which they are published, and published results on them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feredge.calibration.labeled import LabeledPictures, pictures_in_folders
from feredge.runtime.errors import SourceError

RAF_DB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")  # from 1
AFFECTNET = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
FER_PLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
            "unknown", "NF")  # NF: no face


@dataclass(frozen=True)
class Dataset:
    """A data set: how its test pictures are read, and what was published on them.

    Attributes:
        read: returns the labeled pictures of a root folder.
        part: the part of the data set that is evaluated.
        is_scenes: the pictures are scenes, in which the face must be detected.
        published: accuracy by network.
    """

    read: Callable[[Path], LabeledPictures]
    part: str
    is_scenes: bool
    published: Mapping[str, float]


def first_existing(root: Path, names: Sequence[str], dataset: str) -> Path:
    """Return the first file or folder below a root that exists.

    Raises:
        SourceError: none does.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise SourceError(f"--root {root} is not {dataset} as it is published: expected "
                      f"{' or '.join(names)} in it")


def dataset_of(root: Path, rows: Iterable[tuple[Path, str]], dataset: str) -> LabeledPictures:
    """Return pictures and classes as one data set.

    Raises:
        SourceError: there is none.
    """
    pairs = list(rows)
    if not pairs:
        raise SourceError(f"--root {root} lists no test pictures of {dataset}")
    return LabeledPictures(root, tuple(file for file, _ in pairs), tuple(name for _, name in pairs))


def class_name(names: Sequence[str], text: str, first: int, place: Path) -> str | None:
    """Return the name of a numbered class; None for a number that has no name.

    Raises:
        SourceError: it is no number.
    """
    try:
        number = int(float(text)) - first
    except ValueError as error:
        raise SourceError(f"{place}: {text!r} is no class number") from error
    return names[number] if 0 <= number < len(names) else None


def read_raf_db(root: Path) -> LabeledPictures:
    """Read RAF-DB's basic part: `EmoLabel/list_patition_label.txt` and `Image/aligned`."""
    base = first_existing(root, ("basic", "EmoLabel"), "RAF-DB")
    base = base if base.name == "basic" else root
    listing = base / "EmoLabel" / "list_patition_label.txt"
    rows = []
    for line in read_lines(listing):
        name, _, number = line.partition(" ")
        label = class_name(RAF_DB, number, 1, listing)
        if name.startswith("test_") and label is not None:
            rows.append((base / "Image" / "aligned" / f"{Path(name).stem}_aligned.jpg", label))
    return dataset_of(base, rows, "RAF-DB")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not empty.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def read_affectnet(root: Path, classes: Sequence[str]) -> LabeledPictures:
    """Read AffectNet's validation part: `val_set` of crops, or `validation.csv` of pictures."""
    source = first_existing(root, ("val_set", "validation.csv"), "AffectNet")
    rows = affectnet_crops(source) if source.is_dir() else affectnet_list(source)
    kept = [(file, label) for file, label in rows if label is not None and label in classes]
    return dataset_of(root, kept, "AffectNet")


def affectnet_crops(folder: Path) -> list[tuple[Path, str | None]]:
    """Return the pictures of `images` and their classes from `annotations/N_exp.npy`."""
    rows = []
    for file in sorted((folder / "annotations").glob("*_exp.npy")):
        try:
            value = str(np.load(file, allow_pickle=False).item())
        except (OSError, ValueError) as error:
            raise SourceError(f"{file} is no annotation of AffectNet: {error}") from error
        picture = folder / "images" / f"{file.name.removesuffix('_exp.npy')}.jpg"
        rows.append((picture, class_name(AFFECTNET, value, 0, file)))
    return rows


def affectnet_list(path: Path) -> list[tuple[Path, str | None]]:
    """Return the pictures of the older release, a table without or with a header."""
    folder = first_existing(path.parent, ("Manually_Annotated_Images", "Manually_Annotated"),
                            "AffectNet")
    rows = [row for row in read_rows(path) if row[0] != "subDirectory_filePath"]
    return [(folder / row[0], class_name(AFFECTNET, row[6], 0, path)) for row in rows]


def read_rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV that have at least seven columns.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file) if len(row) > 6]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def read_caer_s(root: Path) -> LabeledPictures:
    """Read CAER-S: frames of TV shows in one folder per class below `test`."""
    return pictures_in_folders(first_existing(root, ("test", "Test", "CAER-S/test"), "CAER-S"))


def read_sfew(root: Path) -> LabeledPictures:
    """Read SFEW 2.0's validation part: aligned faces in one folder per class."""
    return pictures_in_folders(first_existing(
        root, ("Val_Aligned_Faces_new/Val_Aligned_Faces", "Val/Val_Aligned_Faces",
               "Val_Aligned_Faces_new", "Val_Aligned_Faces"), "SFEW 2.0"))


def read_fer_plus(root: Path) -> LabeledPictures:
    """Read FER+'s test part: `fer2013new.csv` and the pictures in `FER2013Test`.

    A face has the class with more than half of the votes, single votes not counted, as in the
    majority mode of FER+'s own scripts; other faces are left out.
    """
    folder = first_existing(root, ("FER2013Test", "data/FER2013Test", "images/FER2013Test"), "FER+")
    rows = [row for row in read_rows(root / "fer2013new.csv")
            if row[0] == "PrivateTest" and row[1].strip()]
    try:
        votes = [(folder / row[1].strip(), majority(row[2:])) for row in rows]
    except ValueError as error:
        raise SourceError(f"{root / 'fer2013new.csv'} has a vote that is no number") from error
    return dataset_of(root, [(file, label) for file, label in votes if label is not None], "FER+")


def majority(texts: Sequence[str]) -> str | None:
    """Return the class with more than half of the votes, None without one or for no face."""
    votes = np.array([int(text) for text in texts[: len(FER_PLUS)]], np.int64)
    votes[votes <= 1] = 0
    best = int(votes.argmax())
    return FER_PLUS[best] if votes[best] > votes.sum() / 2 and best < 8 else None


DATASETS = {
    "raf-db": Dataset(read_raf_db, "test, aligned faces", False, {"MA-Net": 0.8840}),
    "affectnet7": Dataset(lambda root: read_affectnet(root, AFFECTNET[:7]), "validation", False,
                          {"MA-Net": 0.6453}),
    "affectnet8": Dataset(lambda root: read_affectnet(root, AFFECTNET), "validation", False,
                          {"MA-Net": 0.6029}),
    "caer-s": Dataset(read_caer_s, "test", True, {"MA-Net": 0.8842}),
    "sfew": Dataset(read_sfew, "validation, aligned faces", False, {"MA-Net": 0.5940}),
    "ferplus": Dataset(read_fer_plus, "test, majority of votes", False, {}),
}
