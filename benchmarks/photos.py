"""Faces found, and expressions told, in a folder of labelled photos.

Usage: `python -m feredge.benchmarks.photos FOLDER --engine ENGINE [--detector PATH] [--json FILE]`

The folder holds pictures of one person each and a `labels.csv` with the columns `image`, `emotion`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from feredge.benchmarks.records import write_results
from feredge.runtime import classify, open_detector, open_engine
from feredge.runtime.pictures import read_picture


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", required=True, type=Path)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    with (options.folder / "labels.csv").open(newline="") as file:
        labelled = [(options.folder / row["image"], row["emotion"]) for row in csv.DictReader(file)]
    found = right = 0
    with open_engine(options.engine) as engine, open_detector(options.detector) as detector:
        for path, emotion in labelled:
            faces = classify(read_picture(path), detector, engine, max_faces=1)
            found += len(faces)
            best = faces.probabilities.argmax(axis=1)
            right += sum(engine.spec.labels[k] == emotion for k in best)
    print(f"a face in {found} of {len(labelled)} photos ({found / len(labelled):.1%}), "
          f"{right} labelled as people did ({right / len(labelled):.1%})")
    write_results(options.json, {"engine": options.engine.name, "photos": len(labelled),
                                 "found": found, "right": right})
    return 0


if __name__ == "__main__":
    sys.exit(main())
