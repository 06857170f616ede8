"""An evaluation as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from feredge.benchmarks.eval.coverage import Part, Selective
from feredge.benchmarks.eval.evaluation import EngineScores, Evaluation
from feredge.benchmarks.eval.scores import Comparison, Groups, Interval

FIRST_FLIPS = 10
HEADER = "true, predicted"
CELL = 8


def evaluation_text(evaluation: Evaluation) -> str:
    """Return an evaluation as text; pictures without a face and most flips are only in the JSON."""
    return "\n".join(lines(evaluation))


def lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines about the data, then those of every network."""
    yield data_line(evaluation)
    for name, pictures in evaluation.left_out.items():
        yield f"not evaluated: {pictures} pictures of {name}, which is no label of the networks"
    if evaluation.unseen:
        yield f"no faces of {', '.join(evaluation.unseen)}: predicting one of them counts as wrong"
    for engine in evaluation.engines:
        yield ""
        yield from engine_lines(engine, evaluation.labels)
    yield from published_lines(evaluation)


def data_line(evaluation: Evaluation) -> str:
    """Return the line about the data."""
    how = "the best face of each scene" if evaluation.detected else "each taken whole as a face"
    return (f"{evaluation.data}: {evaluation.pictures} pictures, {how}; {evaluation.faces} scored, "
            f"{len(evaluation.without_face)} without a face, {len(evaluation.broken)} broken")


def engine_lines(engine: EngineScores, labels: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of one network."""
    scores = engine.scores
    yield (f"{engine.engine}: accuracy {percent(scores.accuracy)}, balanced "
           f"{percent(scores.balanced_accuracy)}, calibration error "
           f"{percent(scores.expected_calibration_error)}; {engine.faces_per_s:.0f} faces/s")
    wide = max(map(len, [*labels, HEADER])) + 2
    yield f"{'':<{wide}}{'precision':>11}{'recall':>9}{'F1':>9}{'faces':>9}"
    for label, row in scores.classes.items():
        yield (f"{label:<{wide}}{share(row.precision):>11}{share(row.recall):>9}{share(row.f1):>9}"
               f"{row.support:>9}")
    # A column's header is the start of its label.
    yield f"{HEADER:<{wide}}" + "".join(f"{label[:CELL - 1]:>{CELL}}" for label in labels)
    for label, counts in zip(labels, scores.confusion):
        yield f"{label:<{wide}}" + "".join(f"{count:>{CELL}}" for count in counts)
    yield from selective_lines(engine.selective)
    if engine.by_probability:
        yield probability_line(engine.by_probability)
    if engine.groups:
        yield from group_lines(engine.groups)
    if engine.against_first:
        yield from comparison_lines(engine.against_first)


def selective_lines(selective: Selective) -> Iterator[str]:
    """Yield accuracy at three coverages, and the area under the risk-coverage curve."""
    for point in selective.points:
        yield (f"labels for the most confident {point.coverage:.0%} (confidence from "
               f"{point.min_confidence:.2f}): accuracy {percent(point.accuracy)}")
    yield f"area under the risk-coverage curve: {percent(selective.area)}"
    middle = selective.points[len(selective.points) // 2]
    for parts in (middle.classes, middle.groups):
        if parts:
            yield f"at {middle.coverage:.0%} coverage: " + "; ".join(
                part_text(name or "(not given)", part) for name, part in parts.items())


def probability_line(selective: Selective) -> str:
    """Return the curve of the probability in one line, beside that of the confidence model."""
    accuracies = ", ".join(f"{percent(point.accuracy)} at {point.coverage:.0%}"
                           for point in selective.points)
    return f"by probability alone: {accuracies}; area {percent(selective.area)}"


def part_text(name: str, part: Part) -> str:
    """Return how many faces of a class or group get a label, and how many of these are right."""
    right = "-" if not part.labeled else f"{part.right / part.labeled:.0%}"
    return f"{name} {part.labeled / part.faces:.0%} labeled, {right} right"


def published_lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield the published accuracies beside the measured ones."""
    if evaluation.dataset:
        yield ""
        yield f"accuracy on {evaluation.dataset}, published and measured:"
        for name, accuracy in evaluation.published.items():
            yield f"  {name} (published): {accuracy:.2%}"
        for engine in evaluation.engines:
            yield f"  {engine.engine}: {percent(engine.scores.accuracy)}"


def group_lines(groups: Groups) -> Iterator[str]:
    """Yield accuracy by group, and the largest gap."""
    for name, group in groups.groups.items():
        yield f"{name or '(not given)'}: {percent(group.accuracy)} of {group.faces} faces"
    yield (f"gap from {groups.worst or '(not given)'} to {groups.best or '(not given)'}: "
           f"{percent(groups.gap)}")


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Yield the comparison of a network with the first."""
    flips = comparison.flips
    yield (f"compared with the first: top-1 agreement {comparison.agreement:.2%}, "
           f"accuracy {percent(comparison.accuracy_change, '+')}; {len(flips)} flips: "
           f"{comparison.right_to_wrong} right to wrong, {comparison.wrong_to_right} wrong to "
           f"right, {comparison.wrong_to_wrong} wrong to wrong; McNemar p = "
           f"{comparison.mcnemar_p:.3g}")
    for flip in flips[:FIRST_FLIPS]:
        yield f"  {flip.picture} is {flip.truth}: {flip.before} -> {flip.after}"
    if len(flips) > FIRST_FLIPS:
        yield f"  and {len(flips) - FIRST_FLIPS} more, all listed by --json"


def percent(interval: Interval, sign: str = "") -> str:
    """Return a value and its interval."""
    return (f"{interval.value:{sign}.2%} [{interval.low:{sign}.2%}, {interval.high:{sign}.2%}]")


def share(value: float | None) -> str:
    """Return a share, or a dash for none."""
    return "-" if value is None else f"{value:.1%}"
