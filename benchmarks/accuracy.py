"""Accuracy of exported networks on a folder of face crops, one folder a class.

Usage: `python -m feredge.benchmarks.accuracy FOLDER ENGINE [ENGINE ...] [--json FILE]`

The folders are called after the engine's labels, also with a number before them (`0_neutral`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.records import write_results
from feredge.runtime import Engine, open_engine
from feredge.runtime.errors import SourceError
from feredge.runtime.pictures import find_pictures, read_picture
from feredge.runtime.preprocess.geometry import whole_picture
from feredge.runtime.preprocess.opencv import crop_faces

BATCH = 32


def label_of(folder: Path, labels: Sequence[str]) -> int:
    """Return the class that a folder is called after.

    Raises:
        SourceError: it is none of the labels.
    """
    name = folder.name.lstrip("0123456789_")
    if name not in labels:
        raise SourceError(f"folder {folder.name} is none of the classes {', '.join(labels)}")
    return list(labels).index(name)


def predictions(engine: Engine, files: Sequence[Path]) -> np.ndarray[Any, Any]:
    """Classify pictures that are face crops, `(n,)` class numbers."""
    found = []
    for start in range(0, len(files), BATCH):
        crops = []
        for file in files[start : start + BATCH]:
            picture = read_picture(file)
            box, whole = whole_picture(picture.shape)
            crops.append(crop_faces(picture, box, engine.spec.input, whole))
        found.append(engine.infer(np.concatenate(crops)).argmax(axis=1))
    return np.concatenate(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("engines", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    files = find_pictures(options.folder)
    rows: list[dict[str, Any]] = []
    answers: list[np.ndarray[Any, Any]] = []
    for path in options.engines:
        with open_engine(path) as engine:
            truth = np.array([label_of(file.parent, engine.spec.labels) for file in files])
            answers.append(predictions(engine, files))
            right = answers[-1] == truth
            rows.append({
                "engine": path.name,
                "faces": len(files),
                "accuracy": float(right.mean()),
                "same_label_as_first": float((answers[-1] == answers[0]).mean()),
                "recall": {label: float(right[truth == k].mean())
                           for k, label in enumerate(engine.spec.labels) if (truth == k).any()},
            })
        print(f"{path.name}: {rows[-1]['accuracy']:.2%} of {len(files)} faces, "
              f"{rows[-1]['same_label_as_first']:.2%} as {options.engines[0].name}")
    write_results(options.json, {"data": options.folder.name, "engines": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
