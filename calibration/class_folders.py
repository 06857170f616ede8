"""Labeled faces in one folder per class: which class a folder's name stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from feredge.runtime.results import Array

UNKNOWN = -1  # the class of a face without a label
# The names of published data sets, and the labels of the networks here.
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


def canonical_name(name: str) -> str:
    """Return a class name in lower case, without a leading number (`4_Anger`), as one synonym."""
    bare = re.sub(r"^\d+[ _.-]+", "", name.strip().lower())
    return SYNONYMS.get(bare, bare)


def class_ids(names: Iterable[str], labels: Sequence[str]) -> Array:
    """Return the class of each name, `(n,)` int64: -1 where it is none of the labels."""
    ids = {canonical_name(label): place for place, label in enumerate(labels)}
    return np.array([ids.get(canonical_name(name), UNKNOWN) for name in names], np.int64)


def class_folder(file: Path, root: Path) -> str:
    """Return the folder right below the root that holds a file; empty for a file in the root."""
    return file.relative_to(root).parts[0] if file.parent != root else ""
