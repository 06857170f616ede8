"""The accuracy gate: an INT8 export costs no more than was allowed, or layers go back to float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from feredge.calibration.graphs.sessions import evaluation_session
from feredge.calibration.quality.accuracy import UNKNOWN, Cost, check_labels, cost
from feredge.calibration.quality.agreement import FP32, Agreement, agreement, predictions
from feredge.calibration.quality.sensitivity import LayerSensitivity
from feredge.runtime.errors import CalibrationError
from feredge.runtime.results import Array

if TYPE_CHECKING:
    import onnx_ir as ir

MIN_AGREEMENT = 0.98
MAX_CLASS_DROP = 10.0


@dataclass(frozen=True)
class Limits:
    """What INT8 may cost on the faces that it is judged on.

    `max_accuracy_drop` is in points and needs labels; `min_agreement` is the share of faces with
    FP32's label, and 0.98 where neither is given.

    `max_class_drop`, in points of a class's recall, is 10 where faces have labels and nothing else
    is given: a network that only loses its rare classes keeps its accuracy, and must not pass. Few
    faces prove little, so a class may always lose one face more than it gains: of 3 faces one,
    of 30 three, of 1,000 a hundred. A rarer class is thus judged on two lost faces or more, which
    the one or two per cent of labels that INT8 flips anywhere seldom take from it.
    """

    max_accuracy_drop: float | None = None
    min_agreement: float | None = None
    max_class_drop: float | None = None

    def __post_init__(self) -> None:
        if self.max_accuracy_drop is None and self.min_agreement is None:
            object.__setattr__(self, "min_agreement", MIN_AGREEMENT)
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise CalibrationError(f"agreement of {self.min_agreement:g}: expected a share of the "
                                   "faces from 0 to 1, as 0.98")
        for name in ("max_accuracy_drop", "max_class_drop"):
            points = getattr(self, name)
            if points is not None and not 0 <= points <= 100:
                raise CalibrationError(f"{name.replace('_', ' ')} of {points:g}: expected points "
                                       "from 0 to 100, as 0.5")

    @property
    def need_labels(self) -> bool:
        """Tell whether something was asked for that only labelled faces answer."""
        return self.max_accuracy_drop is not None or self.max_class_drop is not None


@dataclass(frozen=True)
class GraphCheck:
    """What one graph costs, and which limits that breaks; `cost` is None without labels."""

    agreement: Agreement
    cost: Cost | None
    broken: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One try of the gate: the graphs with `layers_in_float` of the most sensitive layers float."""

    layers_in_float: int
    graphs: Mapping[str, GraphCheck]

    @property
    def holds(self) -> bool:
        """Tell whether every graph keeps to the limits."""
        return not any(check_graph.broken for check_graph in self.graphs.values())


@dataclass(frozen=True)
class GateResult:
    """What the gate found; `dataclasses.asdict` of it is plain JSON.

    `kept_float` are the layers that went back, most sensitive first, with what they cost in INT8
    and the share of the work that they take out of it; empty where nothing holds. `trials` show
    what each step bought, in the order that they were made; the first is all in INT8.
    """

    holds: bool
    limits: Limits
    kept_float: tuple[LayerSensitivity, ...]
    trials: tuple[Trial, ...]


def gate(
    build: Callable[[Sequence[str]], Mapping[str, ir.Model]],
    reference: Any,
    faces: Sequence[tuple[Array, Array]],
    labels: Sequence[str],
    limits: Limits,
    rank: Callable[[str], Sequence[LayerSensitivity]],
    least_int8_share: float,
) -> GateResult:
    """Put the fewest of the most sensitive layers back to float with which every graph holds.

    The number of layers doubles until the limits hold, then halves the gap to the last one that
    failed: a handful of tries, as one list serves all graphs. A layer that would bring INT8 under
    its least share of the work is passed over.

    Args:
        build: makes the graphs in which the named layers stay float, by their name: `tensorrt`,
            `cpu-7bit`, `cpu-8bit`.
        reference: the FP32 session.
        faces: `(n, 3, side, side)` float32 crops with their `(n,)` classes, -1 where unknown;
            those that the ranges were measured on flatter INT8 a little.
        labels: names of the classes, in the order of the output.
        limits: what INT8 may cost.
        rank: measures the layers of the graph that it is given the name of; called only for
            those that fail with all layers in INT8.
        least_int8_share: of the convolutions' multiply-accumulates.

    Returns:
        The outcome; where it does not hold, no export may be called INT8.

    Raises:
        CalibrationError: the limits need labels and no face has one, there is no face, or an
            answer is not finite.
    """
    classes = np.concatenate([np.zeros(0, np.int64), *(truth for _, truth in faces)])
    crops = [batch for batch, _ in faces]
    if limits.need_labels:
        check_labels(classes, labels)
    expected = predictions({FP32: reference}, crops)[FP32]
    trials: dict[int, Trial] = {}

    def holds(count: int) -> bool:
        names = [row.layer for row in order[:count]]
        sessions = {name: evaluation_session(name, graph) for name, graph in build(names).items()}
        got = predictions(sessions, crops)
        trials[count] = Trial(count, {
            name: check_graph(expected, graph, classes, labels, limits)
            for name, graph in got.items()
        })
        return trials[count].holds

    order: Sequence[LayerSensitivity] = ()
    if holds(0):
        return GateResult(True, limits, (), tuple(trials.values()))
    order = layers_within_share(rank_layers(rank, trials[0]), least_int8_share)
    fewest = fewest_layers(holds, len(order))
    kept = () if fewest is None else tuple(order[:fewest])
    return GateResult(fewest is not None, limits, kept, tuple(trials.values()))


def rank_layers(
    rank: Callable[[str], Sequence[LayerSensitivity]], trial: Trial
) -> list[LayerSensitivity]:
    """Return the layers by what each costs in the failing graph that it hurts most.

    One graph cannot stand for the other: TensorRT's quantises what a convolution reads and the
    shortcut beside it, the CPU's what it reads and what it writes.
    """
    worst: dict[str, LayerSensitivity] = {}
    for name, found in trial.graphs.items():
        for row in rank(name) if found.broken else ():
            worst[row.layer] = max(row, worst.get(row.layer, row), key=lambda row: row.kl_int8)
    return sorted(worst.values(), key=lambda row: row.kl_int8, reverse=True)


def check_graph(
    expected: Array, got: Array, classes: Array, labels: Sequence[str], limits: Limits
) -> GraphCheck:
    """Hold one graph's `(faces, classes)` probabilities against FP32's and the limits."""
    agreed = agreement(expected, got)
    known = classes[classes != UNKNOWN]
    lost = cost(expected, got, classes, labels) if len(known) else None
    faces = np.bincount(known, minlength=len(labels)).tolist()
    return GraphCheck(agreed, lost, limit_violations(agreed, lost, faces, labels, limits))


def limit_violations(
    agreed: Agreement, lost: Cost | None, faces: Sequence[int], labels: Sequence[str],
    limits: Limits,
) -> tuple[str, ...]:
    """Return what is to be said of the limits that a graph breaks.

    Args:
        agreed: with FP32.
        lost: against the labels; None without any.
        faces: how many of each class there were.
        labels: names of the classes, in the order of the output.
        limits: what INT8 may cost.
    """
    broken = []
    if limits.min_agreement is not None and agreed.top1 < limits.min_agreement:
        broken.append(f"agreement {agreed.top1:.2%}, at least {limits.min_agreement:.2%} wanted")
    if lost is None:
        return tuple(broken)
    if limits.max_accuracy_drop is not None and lost.accuracy_drop > limits.max_accuracy_drop:
        broken.append(f"accuracy falls by {lost.accuracy_drop:.2f} points, at most "
                      f"{limits.max_accuracy_drop:g} allowed")
    limit = MAX_CLASS_DROP if limits.max_class_drop is None else limits.max_class_drop
    for label, count in zip(labels, faces):
        drop = lost.recall_drop[label]
        # One face lost is no evidence; the small term is float rounding's.
        if drop is not None and drop > max(limit, 100 / count) + 1e-9:
            broken.append(f"recall of {label} falls by {drop:.1f} points on {count} faces, at most "
                          f"{limit:g} allowed")
    return tuple(broken)


def layers_within_share(
    rows: Sequence[LayerSensitivity], least_int8_share: float
) -> list[LayerSensitivity]:
    """Return the layers, in their order, that can all be float while enough work stays INT8."""
    left = sum(row.macs_share for row in rows)
    chosen = []
    for row in rows:
        if left - row.macs_share >= least_int8_share:
            chosen.append(row)
            left -= row.macs_share
    return chosen


def fewest_layers(holds: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest count from 1 to `most` that holds, if holding stays once it is reached.

    Returns:
        A count that was found to hold, in any case; None where not even `most` does.
    """
    failing, count = 0, min(1, most)
    while count and not holds(count):
        failing, count = count, min(2 * count, most) if count < most else 0
    while count - failing > 1:
        middle = (failing + count) // 2
        if holds(middle):
            count = middle
        else:
            failing = middle
    return count or None


def gate_text(outcome: GateResult) -> str:
    """Return the outcome as a table for the terminal, and the layers that went back to float."""
    lines = [f"{'layers in float':<17}{'graph':<18}{'agreement':>10}{'KL':>10}{'accuracy':>10}"
             "  holds"]
    for trial in outcome.trials:
        for name, found in trial.graphs.items():
            points = "" if found.cost is None else f"{0 - found.cost.accuracy_drop:+.2f}"
            more = f" (and {len(found.broken) - 1} more)" if len(found.broken) > 1 else ""
            lines.append(f"{trial.layers_in_float:<17}{name:<18}{found.agreement.top1:>10.2%}"
                         f"{found.agreement.kl:>10.2e}{points:>10}  "
                         f"{found.broken[0] + more if found.broken else 'yes'}")
    lines += [f"back to float: {row.layer} (KL alone in INT8 {row.kl_int8:.2e}, "
              f"{row.macs_share:.1%} of the convolution work)" for row in outcome.kept_float]
    return "\n".join(lines)


def failure_text(outcome: GateResult) -> str:
    """Return the line that a failed export ends with: what was best, and what to do."""
    last = max(outcome.trials, key=lambda trial: trial.layers_in_float)
    said = [f"{name}: {found.broken[0]}" for name, found in last.graphs.items() if found.broken]
    return (f"INT8 costs more than allowed even with the {last.layers_in_float} most sensitive "
            f"layers in float, and with more of them it would not be INT8: {'; '.join(said)}. "
            "Calibrate on more faces like those it will see (--calibration-data), or allow more: "
            "--min-agreement, --max-accuracy-drop, --max-class-drop")
