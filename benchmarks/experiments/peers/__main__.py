"""Speed, start-up, memory, size and accuracy of the whole pipeline, and of other packages.

Usage: `python -m feredge.benchmarks.experiments.peers REPOSITORY ENGINE --scenes CSV --crops FOLDER
[--detector PATH] [--venvs FOLDER] [--only NAME ...] [--json FILE]`

Every package is installed from PyPI into an environment of its own (several GB; kept in `--venvs`),
and runs on the CPU with its default settings, one picture after the other. `--only NAME ...`
measures some packages and keeps the rows of the others in FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.eval.records import write_results
from feredge.benchmarks.eval.scores import mean_interval
from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.benchmarks.experiments.peers.packages import (
    LEFT_OUT,
    PEERS,
    Peer,
    install,
    installed_mb,
)
from feredge.calibration.class_folders import canonical_name
from feredge.calibration.labeled import (
    LabeledPictures,
    pictures_in_folders,
    pictures_of_csv,
)
from feredge.runtime.detect.weights import detector_path

STARTS = 3
COMMON = {"feredge", "numpy", "opencv-python", "opencv-contrib-python", "onnxruntime", "torch",
          "tensorflow"}  # packages whose versions are reported for every peer


def run_peer(python: Path, runner: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """Run a peer on a request; returns its predictions, and the seconds to its first result."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request))
        start_s = time.time()
        done = subprocess.run([python, Path(__file__).with_name("measure.py"), runner, path],
                              capture_output=True, text=True, cwd=folder,
                              env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    if done.returncode:
        raise SystemExit(f"{runner} failed:\n{done.stderr}")
    predictions: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return predictions, predictions["first_at_s"] - start_s


def accuracy(labels: Sequence[str | None], pictures: LabeledPictures) -> dict[str, float]:
    """Return the share of right labels with its interval; a missed face is wrong.

    Empty if there are no predictions.
    """
    if not labels:
        return {}
    right = np.array([label is not None and canonical_name(label) == canonical_name(truth)
                      for label, truth in zip(labels, pictures.classes)])
    return asdict(mean_interval(right))


def measure_peer(
    peer: Peer, python: Path, request: Mapping[str, Any],
    scenes: LabeledPictures, crops: LabeledPictures,
) -> dict[str, Any]:
    """Return the row of one peer."""
    request = {**request, **peer.settings, "scenes": list(map(str, scenes.files))}
    one = {**request, "scenes": request["scenes"][:1], "crops": []}
    starts_s = [run_peer(python, peer.runner, one)[1] for _ in range(STARTS)]
    found, _ = run_peer(python, peer.runner, {**request, "crops": list(map(str, crops.files))})
    names = COMMON | {requirement.split("==")[0].split("<")[0] for requirement in peer.requirements}
    return {
        "peer": peer.name,
        "faces_per_s": len(scenes.files) / found["scene_s"],
        "starts_s": starts_s, "start_s": statistics.median(starts_s),
        "resident_mb": found["resident_mb"], "installed_mb": installed_mb(python),
        "found": sum(label is not None for label in found["scenes"]),
        "scene_accuracy": accuracy(found["scenes"], scenes),
        "crop_accuracy": accuracy(found["crops"], crops),
        "versions": {name: version for name, version in found["versions"].items()
                     if name in names},
    }


def without_contempt(pictures: LabeledPictures) -> LabeledPictures:
    """Return the pictures of the classes that every peer predicts: all but contempt."""
    rows = [row for row, name in enumerate(pictures.classes) if canonical_name(name) != "contempt"]
    return LabeledPictures(pictures.root, tuple(pictures.files[row] for row in rows),
                           tuple(pictures.classes[row] for row in rows))


def no_pictures(pictures: LabeledPictures) -> LabeledPictures:
    """Return an empty set of pictures."""
    return LabeledPictures(pictures.root, (), ())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("repository", type=Path)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--scenes", required=True, type=Path, help="a CSV as for fer-eval")
    parser.add_argument("--crops", required=True, type=Path, help="one folder of faces per class")
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--venvs", type=Path, default=Path("build/peers"))
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in PEERS])


def previous_rows(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the rows of FILE by package, if only some packages are measured anew."""
    if not (options.only and options.json and options.json.is_file()):
        return {}
    return {row["peer"]: row for row in json.loads(options.json.read_text())["peers"]}


def measure(options: argparse.Namespace) -> Results:
    """Install and run every peer; the results so far are written after each."""
    scenes = without_contempt(pictures_of_csv(options.scenes.resolve()))
    crops = without_contempt(pictures_in_folders(options.crops.resolve()))
    request = {"engine": str(options.engine.resolve()),
               "detector": str(detector_path(options.detector).resolve())}
    rows = previous_rows(options)
    results: Results = {"engine": options.engine.name, "scenes": len(scenes.files),
                        "crops": len(crops.files), "left_out": LEFT_OUT}
    for peer in PEERS:
        if options.only and peer.name not in options.only:
            continue
        python = install(peer, options.venvs.resolve(), options.repository.resolve())
        # A crop is taken whole, so that another detector does not change its label.
        same = [rows[known.name] for known in PEERS[: PEERS.index(peer)]
                if known.runner == peer.runner]
        row = measure_peer(peer, python, request, scenes, no_pictures(crops) if same else crops)
        row["crop_accuracy"] = same[0]["crop_accuracy"] if same else row["crop_accuracy"]
        rows[peer.name] = row
        results["peers"] = list(rows.values())
        write_results(options.json, results)
    return results


def describe(results: Results) -> str:
    """Return the results as text."""
    return "\n".join(
        f"{row['peer']}: {row['faces_per_s']:.0f} faces/s, first result after "
        f"{row['start_s']:.1f} s, {row['resident_mb']:.0f} MB resident, "
        f"{row['installed_mb']:.0f} MB installed; {row['scene_accuracy']['value']:.1%} of "
        f"scenes, {row['crop_accuracy']['value']:.1%} of crops" for row in results["peers"])


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
