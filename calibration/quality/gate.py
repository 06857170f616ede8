"""The accuracy gate: INT8 stays within its limits, or sensitive layers go back to float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from feredge.calibration.graphs.sessions import evaluation_session
from feredge.calibration.quality.accuracy import check_labels
from feredge.calibration.quality.agreement import FP32, predictions
from feredge.calibration.quality.limits import GraphCheck, Limits, check_graph
from feredge.calibration.quality.sensitivity import LayerSensitivity
from feredge.runtime.results import Array

if TYPE_CHECKING:
    import onnx_ir as ir

Ranking = Callable[[str], Sequence[LayerSensitivity]]


@dataclass(frozen=True)
class GateSubject:
    """The network that the gate checks, and the faces that it is checked on.

    Attributes:
        build: builds the graphs in which the named layers stay in float, by their name:
            `tensorrt`, `cpu-7bit`, `cpu-8bit`.
        rank: measures the layers of the graph with this name; called only for graphs that exceed
            a limit with all layers in INT8.
        reference: the FP32 session.
        faces: `(n, 3, side, side)` float32 crops with their `(n,)` classes, -1 where unknown;
            faces that the ranges were measured on favor INT8 a little.
        labels: names of the classes, in the order of the output.
    """

    build: Callable[[Sequence[str]], Mapping[str, ir.Model]]
    rank: Ranking
    reference: Any
    faces: Sequence[tuple[Array, Array]]
    labels: Sequence[str]


@dataclass(frozen=True)
class Trial:
    """One step of the gate: the graphs with so many of the most sensitive layers in float."""

    layers_in_float: int
    graphs: Mapping[str, GraphCheck]

    @property
    def holds(self) -> bool:
        """Whether every graph is within the limits."""
        return not any(check.broken for check in self.graphs.values())


@dataclass(frozen=True)
class GateResult:
    """The result of the gate; `dataclasses.asdict` of it is plain JSON.

    `kept_float` are the layers that went back to float, most sensitive first; empty where no
    trial holds. `trials` are in the order in which they were made; the first is all INT8.
    """

    holds: bool
    limits: Limits
    kept_float: tuple[LayerSensitivity, ...]
    trials: tuple[Trial, ...]


def gate(subject: GateSubject, limits: Limits, least_int8_share: float) -> GateResult:
    """Put as few as possible of the most sensitive layers back to float so that every graph holds.

    The number of layers doubles until the limits hold, then a binary search finds the smallest
    number: a handful of trials, as one list serves all graphs.

    Args:
        subject: the network and the faces.
        limits: how much INT8 may lose.
        least_int8_share: of the convolutions' multiply-accumulates; a layer that would take INT8
            below it stays in INT8.

    Returns:
        The result; where it does not hold, no export may be called INT8.

    Raises:
        CalibrationError: the limits need labels and no face has one, there is no face, or a
            prediction is not finite.
    """
    classes = np.concatenate([np.zeros(0, np.int64), *(truth for _, truth in subject.faces)])
    crops = [batch for batch, _ in subject.faces]
    if limits.need_labels:
        check_labels(classes, subject.labels)
    expected = predictions({FP32: subject.reference}, crops)[FP32]
    trials: list[Trial] = []

    def holds(layers: Sequence[str]) -> bool:
        graphs = subject.build(layers)
        got = predictions({name: evaluation_session(name, graph)
                           for name, graph in graphs.items()}, crops)
        trials.append(Trial(len(layers), {
            name: check_graph(expected, graph, classes, subject.labels, limits)
            for name, graph in got.items()}))
        return trials[-1].holds

    if holds(()):
        return GateResult(True, limits, (), tuple(trials))
    order = layers_within_share(rank_layers(subject.rank, trials[0]), least_int8_share)
    names = [row.layer for row in order]
    fewest = fewest_layers(lambda count: holds(names[:count]), len(order))
    return GateResult(fewest is not None, limits, tuple(order[: fewest or 0]), tuple(trials))


def rank_layers(rank: Ranking, trial: Trial) -> list[LayerSensitivity]:
    """Return the layers by their largest cost in the graphs that exceed a limit, worst first.

    Both graphs are ranked: TensorRT's quantizes the input of a convolution and the shortcut beside
    it, the CPU's its input and its output.
    """
    worst: dict[str, LayerSensitivity] = {}
    for name, found in trial.graphs.items():
        for row in rank(name) if found.broken else ():
            worst[row.layer] = max(row, worst.get(row.layer, row), key=lambda row: row.kl_int8)
    return sorted(worst.values(), key=lambda row: row.kl_int8, reverse=True)


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
    """Return the smallest count from 1 to `most` that holds, if every larger count holds, too.

    Returns:
        A count that was tried and holds, in any case; None where not even `most` does.
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


def gate_text(result: GateResult) -> str:
    """Return the result as a table for the terminal, and the layers that went back to float."""
    lines = [f"{'layers in float':<17}{'graph':<18}{'agreement':>10}{'KL':>10}{'accuracy':>10}"
             "  holds"]
    for trial in result.trials:
        for name, found in trial.graphs.items():
            points = "" if found.cost is None else f"{0 - found.cost.accuracy_drop:+.2f}"
            more = f" (and {len(found.broken) - 1} more)" if len(found.broken) > 1 else ""
            lines.append(f"{trial.layers_in_float:<17}{name:<18}{found.agreement.top1:>10.2%}"
                         f"{found.agreement.kl:>10.2e}{points:>10}  "
                         f"{found.broken[0] + more if found.broken else 'yes'}")
    lines += [f"back to float: {row.layer} (KL alone in INT8 {row.kl_int8:.2e}, "
              f"{row.macs_share:.1%} of the convolution work)" for row in result.kept_float]
    return "\n".join(lines)


def failure_text(result: GateResult) -> str:
    """Return the message of a failed export: the limits that are exceeded, and what to do."""
    last = max(result.trials, key=lambda trial: trial.layers_in_float)
    broken = [f"{name}: {found.broken[0]}" for name, found in last.graphs.items() if found.broken]
    return (f"INT8 costs more than allowed even with the {last.layers_in_float} most sensitive "
            f"layers in float, and with more of them it would not be INT8: {'; '.join(broken)}. "
            "Calibrate on more faces like those in use (--calibration-data), or allow more: "
            "--min-agreement, --max-accuracy-drop, --max-class-drop")
