"""Labelled pictures: one folder a class, or a CSV, and which of a network's classes each is."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Array
from feredge.runtime.sources.pictures import find_pictures

# How data sets call what the networks here call otherwise.
SYNONYMS = {
    "happy": "happiness", "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "angry": "anger", "mad": "anger",
    "disgusted": "disgust",
    "fearful": "fear", "afraid": "fear", "scared": "fear",
    "contemptuous": "contempt",
    "neutrality": "neutral", "natural": "neutral",
}
PICTURE_COLUMNS = ("image", "file", "filename", "path", "picture")
LABEL_COLUMNS = ("label", "emotion", "expression", "class")


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures, the class of each as the data calls it, and a CSV's columns.

    `files` and `classes` and every column have one entry a picture.
    """

    root: Path
    files: tuple[Path, ...]
    classes: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def renamed(self, labels: Sequence[str]) -> LabelledPictures:
        """Call the classes otherwise: their names, sorted (numbers as such), become `labels`.

        Raises:
            SourceError: there are more or fewer.
        """
        found = sorted(set(self.classes), key=in_order)
        if len(found) != len(labels):
            raise SourceError(f"--labels names {len(labels)} classes, the data has {len(found)}: "
                              f"{', '.join(found)}")
        names = dict(zip(found, labels))
        return replace(self, classes=tuple(names[name] for name in self.classes))

    def truth(self, labels: Sequence[str]) -> Array:
        """Return each picture's place in a network's labels, `(n,)` int64, -1 for none.

        Raises:
            SourceError: no class of the data is among them.
        """
        places = {canonical(label): place for place, label in enumerate(labels)}
        truth = np.array([places.get(canonical(name), -1) for name in self.classes], np.int64)
        if (truth < 0).all():
            found = ", ".join(sorted(set(self.classes), key=in_order))
            raise SourceError(f"the data's classes {found} are none of the network's "
                              f"{', '.join(labels)}; name them in this order with --labels A,B,...")
        return truth

    def column(self, name: str) -> tuple[str, ...]:
        """Return one column of the CSV.

        Raises:
            SourceError: there is none of that name.
        """
        if name not in self.columns:
            there = ", ".join(self.columns) or "none: it is in folders, pass --csv"
            raise SourceError(f"--group-by {name}: no such column; the data has {there}")
        return self.columns[name]

    def name(self, file: Path) -> str:
        """Return a picture's path as the data has it."""
        return str(file.relative_to(self.root)) if file.is_relative_to(self.root) else str(file)


def in_order(name: str) -> tuple[int, str]:
    """Return what sorts numbers as such, before words."""
    return (int(name), "") if name.isdecimal() else (sys.maxsize, name)


def canonical(name: str) -> str:
    """Return a class's name without case, a number before it, and its synonyms."""
    bare = re.sub(r"^\d+[ _.-]+", "", name.strip().lower())
    return SYNONYMS.get(bare, bare)


def pictures_in_folders(folder: Path) -> LabelledPictures:
    """Return the pictures below a folder; the folder right below it is a picture's class.

    Raises:
        SourceError: there is no such folder, or no folder with pictures in it.
    """
    if not folder.is_dir():
        raise SourceError(f"--data {folder}: there is no such folder")
    files = [file for file in find_pictures(folder) if file.parent != folder]
    if not files:
        raise SourceError(f"--data {folder} holds no folders with pictures: expected one folder a "
                          "class, or --csv FILE with the columns image and label")
    classes = tuple(file.relative_to(folder).parts[0] for file in files)
    return LabelledPictures(folder, tuple(files), classes)


def pictures_of_csv(path: Path, folder: Path | None = None) -> LabelledPictures:
    """Return the pictures that a CSV with a header lists.

    Args:
        path: has a column of pictures and one of classes, and any others to group by.
        folder: what the pictures' names are relative to; None takes the CSV's own.

    Raises:
        SourceError: the file or folder is missing, a column is, or it lists nothing.
    """
    root = path.parent if folder is None else folder
    if not root.is_dir():
        raise SourceError(f"--data {root}: there is no such folder")
    columns = read_columns(path)
    files = columns[one_of(PICTURE_COLUMNS, columns, path)]
    classes = columns[one_of(LABEL_COLUMNS, columns, path)]
    if not files:
        raise SourceError(f"{path} lists no pictures")
    return LabelledPictures(root, tuple(root / file for file in files), classes, columns)


def read_columns(path: Path) -> dict[str, tuple[str, ...]]:
    """Return a CSV's columns by their names.

    Raises:
        SourceError: it cannot be read, or is no CSV.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} is no CSV: {error}") from error
    names = reader.fieldnames or ()
    return {name.strip(): tuple(row[name].strip() for row in rows) for name in names}


def one_of(names: Sequence[str], columns: Iterable[str], path: Path) -> str:
    """Return the first of the names that is a column.

    Raises:
        SourceError: none is.
    """
    for name in names:
        if name in columns:
            return name
    raise SourceError(f"{path} has the columns {', '.join(columns) or '(none)'}; expected one "
                      f"called {', '.join(names[:-1])} or {names[-1]}")
