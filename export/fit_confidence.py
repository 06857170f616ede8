"""Fit the confidence that a label is right to labeled scenes, for `fer-export --confidence`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feredge.calibration.face_reader import FaceReader
from feredge.calibration.labeled import LabeledPictures, pictures_in_folders, pictures_of_csv
from feredge.calibration.quality.confidence import (
    FOLDS,
    SEED,
    choose_penalty,
    fit_logistic,
    held_out,
    log_loss,
    random_folds,
    weight_intervals,
)
from feredge.export.confidence_file import ConfidenceFile, identity_of
from feredge.runtime.command import new_parser, run_command
from feredge.runtime.detect import open_detector
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.engines import Engine, open_engine
from feredge.runtime.environment import quiet_opencv
from feredge.runtime.errors import CalibrationError, SourceError
from feredge.runtime.files import atomic_write, check_folder
from feredge.runtime.quality import confidence_features, measure_quality
from feredge.runtime.results import Array
from feredge.runtime.spec import CONFIDENCE_FEATURES

PROGRAM = "python -m feredge.export.fit_confidence"
LEAST_FACES = 100
LEAST_OF_A_KIND = 20  # right labels, and wrong ones
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
COVERAGES = (1.0, 0.9, 0.8, 0.7)


def arguments() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = new_parser(PROGRAM, __doc__)
    parser.add_argument("--engine", type=Path, metavar="PATH",
                        help="an exported network (default: the bundled one)")
    parser.add_argument("--csv", type=Path, metavar="FILE",
                        help="scenes and the class of the best face in each (columns image, label)")
    parser.add_argument("--data", type=Path, metavar="DIR",
                        help="one folder of scenes per class, or the folder of those in --csv")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE",
                        help="the fitted model, JSON")
    DetectorOptions.add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    given = arguments().parse_args(argv)
    quiet_opencv()
    return run_command(PROGRAM, lambda: run(given), given.debug)


def run(given: argparse.Namespace) -> int:
    """Fit the model, write it and print its quality."""
    check_folder(given.output)
    found = fit_confidence(read_scenes(given.csv, given.data), given.engine,
                           DetectorOptions.from_arguments(given))
    with atomic_write(given.output) as temporary:
        temporary.write_text(found.to_json(), encoding="utf-8")
    print(confidence_text(found))
    return 0


def read_scenes(csv: Path | None, data: Path | None) -> LabeledPictures:
    """Return the labeled scenes of a CSV or of one folder per class.

    Raises:
        SourceError: neither was given, or it cannot be read.
    """
    if csv is not None:
        return pictures_of_csv(csv, data)
    if data is None:
        raise SourceError("no scenes: pass --csv FILE, or --data DIR with one folder per class")
    return pictures_in_folders(data)


def fit_confidence(
    scenes: LabeledPictures, engine_path: Path | None, detector: DetectorOptions
) -> ConfidenceFile:
    """Fit the confidence of a network to the best face of each labeled scene.

    Args:
        scenes: pictures with one labeled face each.
        engine_path: of the network; None: the bundled one.
        detector: finds the faces.

    Raises:
        CalibrationError: too few faces, or too few right or wrong labels among them.
    """
    with open_engine(engine_path) as engine, open_detector(detector) as finder:
        features, right = read_features(scenes, engine, FaceReader(finder, max_faces=1))
        belongs_to = identity_of(engine.spec)
    check_faces(right)
    folds = random_folds(len(right), SEED)
    penalty = choose_penalty(features, right, folds)
    model = fit_logistic(features, right, penalty)
    names = (*CONFIDENCE_FEATURES, "bias")
    intervals = weight_intervals(features, right, penalty)
    facts = {"scenes": scenes.root.resolve().name, "faces": len(right), "right": int(right.sum()),
             "penalty": penalty, "folds": FOLDS,
             **cross_validate(held_out(features, right, folds, None), right, features[:, 0])}
    return ConfidenceFile(
        belongs_to, dict(zip(CONFIDENCE_FEATURES, model.weights.round(4).tolist())),
        round(model.bias, 4), dict(zip(names, intervals.round(3).tolist())), facts)


def read_features(
    scenes: LabeledPictures, engine: Engine, reader: FaceReader
) -> tuple[Array, Array]:
    """Return the features of each face, `(n, features)`, and whether its label is right, `(n,)`."""
    spec, rows, right = engine.spec, [], []
    for file, truth in zip(scenes.files, scenes.truth(engine.spec.labels).tolist()):
        found = reader.read(file) if truth >= 0 else None
        if found is None or found.faces is None:
            continue
        probabilities = engine.infer(found.crops(spec.input, spec.crop))
        faces = found.faces.with_probabilities(probabilities, spec.labels)
        quality = measure_quality(found.picture_bgr, faces)
        rows.append(confidence_features(probabilities, quality)[0])
        right.append(bool(faces.label_ids[0] == truth))
    return np.array(rows).reshape(-1, len(CONFIDENCE_FEATURES)), np.array(right, bool)


def check_faces(right: Array) -> None:
    """Check that there are enough faces to fit the model.

    Raises:
        CalibrationError: there are too few, or of one kind.
    """
    count, wrong = len(right), int((~right).sum())
    if count < LEAST_FACES or min(wrong, count - wrong) < LEAST_OF_A_KIND:
        raise CalibrationError(
            f"{count} labeled faces, {wrong} of them with a wrong prediction, are too few to fit "
            f"the confidence: expected {LEAST_FACES} or more, {LEAST_OF_A_KIND} right and "
            f"{LEAST_OF_A_KIND} wrong")


def cross_validate(confidence: Array, right: Array, log_odds: Array) -> dict[str, Any]:
    """Return the quality of held-out confidences, beside that of the probability alone.

    Args:
        confidence: `(n,)`, of each face by a model that it did not fit.
        right: `(n,)` bool.
        log_odds: `(n,)`, of the most probable class.
    """
    probability = 1 / (1 + np.exp(-log_odds))
    both = {"confidence": confidence, "probability": probability}
    return {
        "log_loss": {name: log_loss(values, right) for name, values in both.items()},
        "accuracy_at_coverage": {
            name: {f"{share:.0%}": accuracy_at(values, right, share) for share in COVERAGES}
            for name, values in both.items()},
        "at_min_confidence": {
            f"{least:g}": {"labeled": float((confidence >= least).mean()),
                           "accuracy": float(right[confidence >= least].mean())}
            for least in THRESHOLDS if (confidence >= least).any()},
    }


def accuracy_at(confidence: Array, right: Array, coverage: float) -> float:
    """Return the accuracy of the most confident share of the faces, arrays `(n,)`."""
    count = max(round(coverage * len(right)), 1)
    return float(right[np.argsort(-confidence, kind="stable")[:count]].mean())


def confidence_text(found: ConfidenceFile) -> str:
    """Return a fitted model as text for the terminal."""
    facts = found.facts
    lines = [f"{facts['faces']} faces of {facts['scenes']}, {facts['right']} of them right; "
             f"penalty {facts['penalty']:g}", f"{'feature':<16}{'weight':>9}   95 % interval"]
    for name, value in {**found.weights, "bias": found.bias}.items():
        low, high = found.intervals[name]
        lines.append(f"{name:<16}{value:>9.3f}   [{low:.3f}, {high:.3f}]")
    lines.append(f"cross-validated, {facts['folds']} folds:")
    for name, accuracies in facts["accuracy_at_coverage"].items():
        shares = ", ".join(f"{value:.1%} at {share}" for share, value in accuracies.items())
        lines.append(f"  {name}: log loss {facts['log_loss'][name]:.3f}; accuracy by coverage "
                     f"{shares}")
    lines += [f"  --min-confidence {least}: {row['labeled']:.0%} of the faces get a label, "
              f"{row['accuracy']:.1%} of these are right"
              for least, row in facts["at_min_confidence"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
