"""Evaluate networks on labelled faces: every picture read once, every network on the same faces."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feredge.benchmarks.eval.labelled import LabelledPictures
from feredge.benchmarks.eval.scores import Comparison, Groups, Scores, compared, grouped, scored
from feredge.runtime.detect.base import Detector
from feredge.runtime.engines.base import Engine
from feredge.runtime.errors import EngineError, SourceError, require
from feredge.runtime.preprocess.geometry import whole_picture
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array
from feredge.runtime.sources.pictures import read_picture
from feredge.runtime.spec import ModelSpec

BATCH = 32


@dataclass(frozen=True)
class EngineScores:
    """One network's scores; `faces_per_s` is inference alone, in batches of up to 32 faces."""

    engine: str
    scores: Scores
    faces_per_s: float
    groups: Groups | None = None
    against_first: Comparison | None = None


@dataclass(frozen=True)
class Evaluation:
    """What `fer-eval` reports.

    `left_out` counts the pictures of classes that the networks lack, `unseen` are the networks'
    classes without a face; `detected` tells scenes from face crops.
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


def evaluate(
    data: LabelledPictures, engines: Mapping[str, Engine], detector: Detector | None = None,
    group_by: str | None = None,
) -> Evaluation:
    """Classify labelled pictures and score the answers.

    Args:
        data: pictures of classes, some of which the networks know.
        engines: the networks, by name; each after the first is compared with it.
        detector: the pictures are scenes, and the best face in each counts; None for face crops.
        group_by: a column of the data; accuracy is told for each of its values.

    Raises:
        EngineError: the networks have different labels.
        SourceError: no class fits, there is no such column, or no face could be read.
    """
    labels = common_labels(engines)
    places = data.truth(labels)
    groups = None if group_by is None else np.array(data.column(group_by))
    known = np.flatnonzero(places >= 0)
    reader = FaceReader(detector)
    answers = answered(list(engines.values()), [data.files[row] for row in known], reader)
    rows = known[answers.rows]
    if not len(rows):
        reason = reader.broken[0] if reader.broken else "no face is found in any"
        raise SourceError(f"{len(known)} pictures, none of which can be scored: {reason}")
    return Evaluation(
        data.root.resolve().name, len(data.files), len(rows), detector is not None, labels,
        dict(Counter(data.classes[row] for row in np.flatnonzero(places < 0))),
        [label for place, label in enumerate(labels) if place not in places[rows]],
        reader.broken, [data.name(file) for file in reader.without_face],
        engine_scores(list(engines), answers, places[rows], labels,
                      [data.name(data.files[row]) for row in rows],
                      None if groups is None else groups[rows]),
    )


def engine_scores(
    engines: Sequence[str], answers: Answers, truth: Array, labels: Sequence[str],
    names: Sequence[str], groups: Array | None,
) -> list[EngineScores]:
    """Score every network, and compare each after the first with it."""
    first, *_ = said = [probabilities.argmax(axis=1) for probabilities in answers.probabilities]
    return [
        EngineScores(
            engine, scored(probabilities, truth, labels), len(truth) / seconds,
            None if groups is None else grouped(answer == truth, groups),
            None if answer is first else compared(first, answer, truth, names, labels),
        )
        for engine, probabilities, seconds, answer in zip(
            engines, answers.probabilities, answers.seconds, said)
    ]


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
            raise EngineError(f"{first} tells {', '.join(labels)}, {name} {theirs}: only networks "
                              "with the same labels can be compared; evaluate them one by one")
    return labels


class FaceReader:
    """Cuts the one face out of each picture; keeps what could not be read or has no face.

    Without a detector a picture is a face crop, taken whole; with one, its best face counts.
    """

    def __init__(self, detector: Detector | None = None) -> None:
        self.detector = detector
        self.broken: list[str] = []
        self.without_face: list[Path] = []

    def crops(self, file: Path, specs: Sequence[ModelSpec]) -> list[Array] | None:
        """Return a picture's face for each network, `(1, 3, side, side)` float32; None without."""
        try:
            picture = read_picture(file)
        except SourceError as error:
            self.broken.append(str(error))
            return None
        if self.detector is None:
            box, whole = whole_picture(picture.shape)
            return [crop_faces(picture, box, spec.input, whole) for spec in specs]
        best = self.detector.detect(picture).within(picture.shape).boxes_xyxy[:1]
        if not len(best):
            self.without_face.append(file)
            return None
        return [crop_faces(picture, best, spec.input, spec.crop) for spec in specs]


@dataclass(frozen=True)
class Answers:
    """What networks said: of the files in `rows`, one `(n, classes)` and the seconds of each."""

    rows: Array
    probabilities: list[Array]
    seconds: list[float]


def answered(engines: Sequence[Engine], files: Sequence[Path], reader: FaceReader) -> Answers:
    """Classify the face of each picture with every network, in batches."""
    tqdm = require("tqdm", "bench").tqdm
    specs = [engine.spec for engine in engines]
    rows: list[int] = []
    parts: list[list[Array]] = [[] for _ in engines]
    seconds = [0.0] * len(engines)
    # disable=None hides the bar unless stderr is a terminal.
    with tqdm(total=len(files), unit="picture", disable=None, leave=False) as bar:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            found = {start + place: crops for place, file in enumerate(batch)
                     if (crops := reader.crops(file, specs)) is not None}
            rows += found
            for place, faces in enumerate(zip(*found.values())):
                batch_crops = np.concatenate(faces)
                start_s = time.perf_counter()
                parts[place].append(engines[place].infer(batch_crops))
                seconds[place] += time.perf_counter() - start_s
            bar.update(len(batch))
    return Answers(np.array(rows, np.int64), [np.concatenate(part) for part in parts if part],
                   seconds)
