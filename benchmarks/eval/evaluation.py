"""Evaluate networks on labeled faces: each picture is read once, for all networks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from feredge.benchmarks.eval.coverage import Selective, selective_scores
from feredge.benchmarks.eval.scores import (
    Comparison,
    Groups,
    Scores,
    compare,
    score,
    score_groups,
)
from feredge.calibration.face_reader import FaceReader
from feredge.calibration.labeled import LabeledPictures
from feredge.runtime.detect.base import Detector
from feredge.runtime.engines.base import Engine
from feredge.runtime.errors import EngineError, SourceError, require
from feredge.runtime.quality import FaceQuality, apply_model, measure_quality
from feredge.runtime.results import Array
from feredge.runtime.spec import ModelSpec

BATCH = 32


@dataclass(frozen=True)
class EngineScores:
    """The scores of one network.

    `faces_per_s` is inference alone, in batches of up to 32 faces. The confidence of `selective` is
    that of the model in the ModelSpec, which needs scenes, else the probability of the label; with
    a model `by_probability` is the curve of the probability.
    """

    engine: str
    scores: Scores
    faces_per_s: float
    selective: Selective
    groups: Groups | None = None
    against_first: Comparison | None = None
    by_probability: Selective | None = None


@dataclass(frozen=True)
class Evaluation:
    """The result of fer-eval.

    `left_out` counts the pictures of classes that the networks lack, `unseen` are the networks'
    classes without a face in the data; `detected` is true for scenes, false for face crops;
    `published` holds accuracies from the literature on `dataset`.
    """

    data: str
    pictures: int
    faces: int
    detected: bool
    labels: tuple[str, ...]
    left_out: Mapping[str, int]
    unseen: Sequence[str]
    broken: Sequence[str]
    without_face: Sequence[str]
    engines: Sequence[EngineScores]
    dataset: str | None = None
    published: Mapping[str, float] = field(default_factory=dict)


def evaluate_engines(
    data: LabeledPictures, engines: Mapping[str, Engine], detector: Detector | None = None,
    group_by: str | None = None,
) -> Evaluation:
    """Classify labeled pictures and score the predictions.

    Args:
        data: pictures with their classes; those of classes that the networks lack are left out.
        engines: the networks by name; each after the first is compared with the first.
        detector: the pictures are scenes, and the best face in each counts; None for face crops.
        group_by: a column of the data; accuracy is reported for each of its values.

    Raises:
        EngineError: the networks have different labels.
        SourceError: no class of the data is a label, there is no column, or no face can be read.
    """
    labels = common_labels(engines)
    places = data.truth(labels)
    groups = None if group_by is None else np.array(data.column(group_by))
    known = np.flatnonzero(places >= 0)
    reader = FaceReader(detector, max_faces=1)
    files = [data.files[row] for row in known]
    predictions = classify_pictures(list(engines.values()), files, reader)
    rows = known[predictions.rows]
    if not len(rows):
        reason = next(iter(reader.broken.values()), "no face is detected in any")
        raise SourceError(f"{len(known)} pictures, none of which can be scored: {reason}")
    return Evaluation(
        data.root.resolve().name, len(data.files), len(rows), detector is not None, labels,
        dict(Counter(data.classes[row] for row in np.flatnonzero(places < 0))),
        [label for place, label in enumerate(labels) if place not in places[rows]],
        list(reader.broken.values()), [data.name(file) for file in reader.without_face],
        score_engines(engines, predictions, places[rows], labels,
                      [data.name(data.files[row]) for row in rows],
                      None if groups is None else groups[rows]),
    )


def score_engines(
    engines: Mapping[str, Engine], predictions: Predictions, truth: Array, labels: Sequence[str],
    names: Sequence[str], groups: Array | None,
) -> list[EngineScores]:
    """Score every network, and compare each after the first with the first."""
    first = predictions.probabilities[0]
    found = []
    for (name, engine), probabilities, seconds in zip(
            engines.items(), predictions.probabilities, predictions.seconds):
        model, quality = engine.spec.confidence, predictions.quality
        confidence = (None if model is None or quality is None
                      else apply_model(probabilities, quality, model))
        by_probability = selective_scores(probabilities, truth, labels, groups)
        found.append(EngineScores(
            name, score(probabilities, truth, labels), len(truth) / seconds,
            by_probability if confidence is None
            else selective_scores(probabilities, truth, labels, groups, confidence),
            None if groups is None
            else score_groups(probabilities.argmax(axis=1) == truth, groups),
            None if probabilities is first
            else compare(first, probabilities, truth, names, labels),
            None if confidence is None else by_probability,
        ))
    return found


def common_labels(engines: Mapping[str, Engine]) -> tuple[str, ...]:
    """Return the labels that all networks have, in the same order.

    Raises:
        EngineError: they differ.
    """
    first, *others = engines
    labels = engines[first].spec.labels
    for name in others:
        if engines[name].spec.labels != labels:
            theirs = ", ".join(engines[name].spec.labels)
            raise EngineError(f"{first} has the labels {', '.join(labels)}, {name} {theirs}: only "
                              "networks with the same labels can be compared; evaluate them in "
                              "separate runs")
    return labels


@dataclass(frozen=True)
class FaceInput:
    """One face: its crop for each network, `(1, 3, side, side)` float32, and its quality.

    `quality` is None for a picture that is a face crop.
    """

    crops: list[Array]
    quality: FaceQuality | None


def read_face(reader: FaceReader, file: Path, specs: Sequence[ModelSpec]) -> FaceInput | None:
    """Return the face of a picture; None without one."""
    found = reader.read(file)
    if found is None:
        return None
    quality = (None if found.faces is None
               else measure_quality(found.picture_bgr, found.faces))
    return FaceInput([found.crops(spec.input, spec.crop) for spec in specs], quality)


@dataclass(frozen=True)
class Predictions:
    """The probabilities `(n, classes)` and seconds of each network, for the files in `rows`.

    `quality` is that of the faces of scenes; None for face crops.
    """

    rows: Array
    probabilities: list[Array]
    seconds: list[float]
    quality: FaceQuality | None


def classify_pictures(
    engines: Sequence[Engine], files: Sequence[Path], reader: FaceReader
) -> Predictions:
    """Classify the face of each picture with every network, in batches."""
    tqdm = require("tqdm", "bench").tqdm
    specs = [engine.spec for engine in engines]
    rows: list[int] = []
    qualities: list[FaceQuality] = []
    parts: list[list[Array]] = [[] for _ in engines]
    seconds = [0.0] * len(engines)
    # disable=None hides the bar unless stderr is a terminal.
    with tqdm(total=len(files), unit="picture", disable=None, leave=False) as bar:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            found = {start + place: face for place, file in enumerate(batch)
                     if (face := read_face(reader, file, specs)) is not None}
            rows += found
            qualities += [face.quality for face in found.values() if face.quality is not None]
            for place, faces in enumerate(zip(*(face.crops for face in found.values()))):
                batch_crops = np.concatenate(faces)
                start_s = time.perf_counter()
                parts[place].append(engines[place].infer(batch_crops))
                seconds[place] += time.perf_counter() - start_s
            bar.update(len(batch))
    return Predictions(np.array(rows, np.int64), [np.concatenate(part) for part in parts if part],
                   seconds, join_quality(qualities))


def join_quality(parts: Sequence[FaceQuality]) -> FaceQuality | None:
    """Return the quality of all faces; None of none."""
    if not parts:
        return None
    return FaceQuality(*(np.concatenate([getattr(part, column.name) for part in parts])
                         for column in fields(FaceQuality)))
