"""What is timed: exported engines as our runtime runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feredge.runtime.engines import Engine
from feredge.runtime.errors import EngineError
from feredge.runtime.results import Array


@dataclass(frozen=True)
class Candidate:
    """A network that is ready to run.

    `infer` takes `(n, 3, side, side)` float32 crops and returns `(n, classes)` probabilities;
    `recorded` is the agreement that its export measured on real faces. `split` is an
    engine's `profile`.
    """

    name: str
    precision: str
    infer: Callable[[Array], Array]
    recorded: Any = None
    split: Callable[[Array], dict[str, float]] | None = None


def candidate_of(path: Path, engine: Engine) -> Candidate:
    """Return an engine as it is timed."""
    spec = engine.spec
    return Candidate(path.name, spec.precision, engine.infer, spec.quality.get("agreement"),
                     engine.profile)


def check_comparable(
    paths: Sequence[Path], engines: Sequence[Engine], batches: Sequence[int]
) -> None:
    """Check that engines have the same input and labels, and take the batches.

    Raises:
        EngineError: sides or labels differ, or a batch is over an engine's maximum.
    """
    first = engines[0].spec
    for path, engine in zip(paths, engines):
        spec = engine.spec
        for what, got, expected in (("an input side", spec.input.side, first.input.side),
                                    ("labels", spec.labels, first.labels)):
            if got != expected:
                raise EngineError(f"{path} has {what} of {got}, {paths[0]} of {expected}: they "
                                  "cannot be compared; time them in separate runs")
        if max(batches) > engine.max_batch:
            raise EngineError(f"{path} takes at most {engine.max_batch} faces per inference, "
                              f"--batch asks for {max(batches)}; leave it out, or build a plan "
                              "with --max-batch")
