"""Labeled pictures: one folder per class, or a CSV, and the class of each among a network's."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from feredge.calibration.class_folders import class_folder, class_ids
from feredge.runtime.errors import SourceError
from feredge.runtime.results import Array
from feredge.runtime.sources.pictures import find_pictures

PICTURE_COLUMNS = ("image", "file", "filename", "path", "picture")
LABEL_COLUMNS = ("label", "emotion", "expression", "class")


@dataclass(frozen=True)
class LabeledPictures:
    """Pictures, the class of each as named in the data, and the columns of a CSV.

    `files`, `classes` and every column have one entry per picture.
    """

    root: Path
    files: tuple[Path, ...]
    classes: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def rename(self, labels: Sequence[str]) -> LabeledPictures:
        """Rename the classes: in the order of their names, or numbers, they become `labels`.

        Raises:
            SourceError: the data has more or fewer classes.
        """
        found = sorted(set(self.classes), key=sort_key)
        if len(found) != len(labels):
            raise SourceError(f"--labels names {len(labels)} classes, the data has {len(found)}: "
                              f"{', '.join(found)}")
        names = dict(zip(found, labels))
        return replace(self, classes=tuple(names[name] for name in self.classes))

    def truth(self, labels: Sequence[str]) -> Array:
        """Return the index of each picture's class among labels, `(n,)` int64, -1 for none.

        Raises:
            SourceError: no class of the data is among the labels.
        """
        truth = class_ids(self.classes, labels)
        if (truth < 0).all():
            found = ", ".join(sorted(set(self.classes), key=sort_key))
            raise SourceError(f"none of the data's classes {found} is among the network's "
                              f"{', '.join(labels)}; name them in this order with --labels A,B,...")
        return truth

    def column(self, name: str) -> tuple[str, ...]:
        """Return one column of the CSV.

        Raises:
            SourceError: it has no column of that name.
        """
        if name not in self.columns:
            there = ", ".join(self.columns) or "none since it is in folders: pass --csv"
            raise SourceError(f"--group-by {name}: no such column; the data has {there}")
        return self.columns[name]

    def name(self, file: Path) -> str:
        """Return a picture's path relative to the data."""
        return str(file.relative_to(self.root)) if file.is_relative_to(self.root) else str(file)


def sort_key(name: str) -> tuple[int, str]:
    """Return a key that sorts numbers by value, before words."""
    return (int(name), "") if name.isdecimal() else (sys.maxsize, name)


def pictures_in_folders(folder: Path) -> LabeledPictures:
    """Return the pictures in the folders of a folder; each of these folders is a class.

    Raises:
        SourceError: there is no such folder, or no folder with pictures in it.
    """
    if not folder.is_dir():
        raise SourceError(f"--data {folder}: there is no such folder")
    files = [file for file in find_pictures(folder) if file.parent != folder]
    if not files:
        raise SourceError(f"--data {folder} holds no folders with pictures: expected one folder "
                          "per class, or --csv FILE with the columns image and label")
    classes = tuple(class_folder(file, folder) for file in files)
    return LabeledPictures(folder, tuple(files), classes)


def pictures_of_csv(path: Path, folder: Path | None = None) -> LabeledPictures:
    """Return the pictures that a CSV with a header lists.

    Args:
        path: a CSV with a column of pictures, one of classes, and others to group by.
        folder: the folder that the pictures' paths are relative to; None is the CSV's folder.

    Raises:
        SourceError: the file, the folder or a column is missing, or the table is empty.
    """
    root = path.parent if folder is None else folder
    if not root.is_dir():
        raise SourceError(f"--data {root}: there is no such folder")
    columns = read_columns(path)
    files = columns[first_column(PICTURE_COLUMNS, columns, path)]
    classes = columns[first_column(LABEL_COLUMNS, columns, path)]
    if not files:
        raise SourceError(f"{path} lists no pictures")
    return LabeledPictures(root, tuple(root / file for file in files), classes, columns)


def read_columns(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the columns of a CSV by name.

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


def first_column(names: Sequence[str], columns: Iterable[str], path: Path) -> str:
    """Return the first of the names that is a column.

    Raises:
        SourceError: none of them is.
    """
    for name in names:
        if name in columns:
            return name
    raise SourceError(f"{path} has the columns {', '.join(columns) or '(none)'}; expected one "
                      f"called {', '.join(names[:-1])} or {names[-1]}")
