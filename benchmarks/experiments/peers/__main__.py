"""Speed, start, memory, size and accuracy of the whole pipeline, beside packages that do the same.

Usage: `python -m feredge.benchmarks.experiments.peers REPOSITORY ENGINE --scenes CSV --crops FOLDER
[--detector PATH] [--venvs FOLDER] [--json FILE]`

Every package is installed from PyPI into a venv of its own (several GB; kept in `--venvs`), and
runs on the CPU, one picture after the other, with its own settings.
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
import venv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.eval.labelled import (
    LabelledPictures,
    canonical,
    pictures_in_folders,
    pictures_of_csv,
)
from feredge.benchmarks.eval.records import write_results
from feredge.benchmarks.eval.scores import mean_interval
from feredge.runtime.detect.weights import detector_path

STARTS = 3


@dataclass(frozen=True)
class Peer:
    """A package: what pip installs (nothing: this repository), and the runner that serves it."""

    name: str
    runner: str
    requirements: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


FER = ("fer==25.10.3", "setuptools<81")  # it imports pkg_resources
PEERS = (
    Peer("feredge", "run_feredge"),
    Peer("fer, Haar cascade", "run_fer", FER),
    Peer("fer, MTCNN", "run_fer", FER, {"mtcnn": True}),
    Peer("facial-emotion-recognition", "run_facial_emotion_recognition",
         ("facial-emotion-recognition==0.3.4",)),
)
# Read in their wheels: what keeps each from running without a network, or at all.
LEFT_OUT = {
    "deepface 0.0.103": "fetches its weights from GitHub at first use",
    "emotiefflib 1.1.1": "fetches its weights from GitHub at first use",
    "hsemotion 0.3.0, hsemotion-onnx 0.3.1": "fetch their weights from GitHub at first use",
    "py-feat 2.1.5": "fetches its weights from the Hugging Face hub at first use",
    "rmn 3.3.0": "fetches its weights from the Hugging Face hub at first use",
    "facetorch 0.6.2": "fetches its weights from the Hugging Face hub or Google Drive at first use",
    "online-emotion-detection 0.3.4": "holds no weights",
    "emotion-framework 1.0.1": "holds no weights",
    "faceemotionrecognition 1.2.2": "its networks are reached through a Tk window alone",
}


def installed(peer: Peer, venvs: Path, repository: Path) -> Path:
    """Return the Python of a peer's venv, made where it is missing."""
    folder = venvs / peer.runner
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet",
                        *(peer.requirements or [str(repository)])], check=True)
    return python


def installed_mb(python: Path) -> float:
    """Return the size of what a venv's packages hold, without pip itself."""
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    files = (file for file in site.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(file.stat().st_size for file in files
               if file.relative_to(site).parts[0] != "pip") / 1e6


def answered(python: Path, runner: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """Run a peer on a request; returns its answer, and the seconds until its first result."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request))
        start_s = time.time()
        done = subprocess.run([python, Path(__file__).with_name("measure.py"), runner, path],
                              capture_output=True, text=True, cwd=folder,
                              env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    if done.returncode:
        raise SystemExit(f"{runner} failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer, answer["first_at_s"] - start_s


def accuracy(said: Sequence[str | None], pictures: LabelledPictures) -> dict[str, float]:
    """Return the share that is labelled as people did, with its interval; no face is wrong.

    Nothing at all, where nothing was asked.
    """
    if not said:
        return {}
    right = np.array([label is not None and canonical(label) == canonical(truth)
                      for label, truth in zip(said, pictures.classes)])
    return asdict(mean_interval(right))


def measured(
    peer: Peer, python: Path, request: Mapping[str, Any],
    scenes: LabelledPictures, crops: LabelledPictures,
) -> dict[str, Any]:
    """Return what is told of one peer."""
    request = {**request, **peer.settings, "scenes": list(map(str, scenes.files))}
    one = {**request, "scenes": request["scenes"][:1], "crops": []}
    starts_s = [answered(python, peer.runner, one)[1] for _ in range(STARTS)]
    answer, _ = answered(python, peer.runner, {**request, "crops": list(map(str, crops.files))})
    names = {requirement.split("==")[0].split("<")[0] for requirement in peer.requirements}
    names |= {"feredge", "numpy", "opencv-python", "opencv-contrib-python", "onnxruntime", "torch",
              "tensorflow"}
    return {
        "peer": peer.name,
        "faces_per_s": len(scenes.files) / answer["scene_s"],
        "starts_s": starts_s, "start_s": statistics.median(starts_s),
        "resident_mb": answer["resident_mb"], "installed_mb": installed_mb(python),
        "found": sum(label is not None for label in answer["scenes"]),
        "scene_accuracy": accuracy(answer["scenes"], scenes),
        "crop_accuracy": accuracy(answer["crops"], crops),
        "versions": {name: version for name, version in answer["versions"].items()
                     if name in names},
    }


def common(pictures: LabelledPictures) -> LabelledPictures:
    """Return the pictures of classes that every peer tells: not contempt."""
    rows = [row for row, name in enumerate(pictures.classes) if canonical(name) != "contempt"]
    return LabelledPictures(pictures.root, tuple(pictures.files[row] for row in rows),
                            tuple(pictures.classes[row] for row in rows))


def none_of(pictures: LabelledPictures) -> LabelledPictures:
    """Return no pictures at all."""
    return LabelledPictures(pictures.root, (), ())


def main(argv: Sequence[str] | None = None) -> int:
    """Install, run and compare them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--scenes", required=True, type=Path, help="a CSV as fer-eval takes it")
    parser.add_argument("--crops", required=True, type=Path, help="one folder of faces a class")
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--venvs", type=Path, default=Path("build/peers"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    scenes = common(pictures_of_csv(options.scenes.resolve()))
    crops = common(pictures_in_folders(options.crops.resolve()))
    request = {"engine": str(options.engine.resolve()),
               "detector": str(detector_path(options.detector).resolve())}
    rows: list[dict[str, Any]] = []
    for peer in PEERS:
        python = installed(peer, options.venvs.resolve(), options.repository.resolve())
        # A crop is taken whole: another detector would answer the same, after minutes.
        same = [row for known, row in zip(PEERS, rows) if known.runner == peer.runner]
        row = measured(peer, python, request, scenes, none_of(crops) if same else crops)
        row["crop_accuracy"] = same[0]["crop_accuracy"] if same else row["crop_accuracy"]
        rows.append(row)
        print(f"{peer.name}: {row['faces_per_s']:.0f} faces/s, first result after "
              f"{row['start_s']:.1f} s, {row['resident_mb']:.0f} MB resident, "
              f"{row['installed_mb']:.0f} MB installed; {row['scene_accuracy']['value']:.1%} of "
              f"scenes, {row['crop_accuracy']['value']:.1%} of crops")
        write_results(options.json, {
            "engine": options.engine.name, "scenes": len(scenes.files), "crops": len(crops.files),
            "peers": rows, "left_out": LEFT_OUT,
        })
    return 0


if __name__ == "__main__":
    sys.exit(main())
