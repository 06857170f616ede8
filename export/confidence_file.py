"""The file of a fitted confidence model: the network it belongs to, its weights, its quality."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feredge.export.models.registry import WEIGHTS, Network
from feredge.runtime.errors import CalibrationError, SpecError
from feredge.runtime.spec import ConfidenceSpec, ModelSpec

FORMAT = 1


@dataclass(frozen=True)
class ConfidenceFile:
    """A fitted model of the confidence.

    Attributes:
        belongs_to: the checkpoint, input, crop and temperature of the network that it was fitted
            with, from `identity_of`.
        weights, bias: see `ConfidenceSpec`.
        intervals: 95 % intervals of the weights and of the bias.
        facts: what it was fitted on, and its cross-validated quality.
        format: the version of this format.
    """

    belongs_to: Mapping[str, Any]
    weights: Mapping[str, float]
    bias: float
    intervals: Mapping[str, tuple[float, float]]
    facts: Mapping[str, Any]
    format: int = FORMAT

    @property
    def spec(self) -> ConfidenceSpec:
        """The model as a ModelSpec holds it."""
        return ConfidenceSpec(self.weights, self.bias)

    def to_json(self) -> str:
        """Return the JSON that `read_confidence` reads."""
        return json.dumps(asdict(self), indent=1) + "\n"


def identity_of(spec: ModelSpec) -> dict[str, Any]:
    """Return what a network's probabilities depend on, as JSON has it."""
    temperature = spec.quality.get("confidence", {}).get("temperature")
    facts = {"checkpoint_sha256": spec.source.checkpoint_sha256, "input": asdict(spec.input),
             "crop": asdict(spec.crop), "temperature": temperature}
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def read_confidence(path: Path) -> ConfidenceFile:
    """Read the file of a confidence model.

    Raises:
        CalibrationError: it cannot be read, or is no such file.
    """
    try:
        found = ConfidenceFile(**json.loads(path.read_text(encoding="utf-8")))
        if found.format != FORMAT:
            raise ValueError(f"format {found.format!r}, expected {FORMAT}")
        weights = {str(name): float(value) for name, value in found.weights.items()}
        return ConfidenceFile(found.belongs_to, ConfidenceSpec(weights, float(found.bias)).weights,
                              float(found.bias), found.intervals, found.facts)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, SpecError) as error:
        raise CalibrationError(f"--confidence {path} is no confidence model: {error}") from error


def confidence_of(
    network: Network, spec: ModelSpec, path: str | None, default_detector: bool
) -> ConfidenceSpec | None:
    """Return the confidence model of an export: the given one, else the bundled one, else None.

    Args:
        network: with the name of its bundled checkpoint.
        spec: of the exported network.
        path: of a file that was given.
        default_detector: the bundled model is of the bundled detector's scores and boxes.

    Raises:
        CalibrationError: the given file cannot be read, or belongs to another network.
    """
    if path is not None:
        found = read_confidence(Path(path))
        check_belongs(found, spec, path)
        return found.spec
    bundled = WEIGHTS / str(network.checkpoint).replace(".safetensors", ".confidence.json")
    if network.checkpoint is None or not default_detector or not bundled.is_file():
        return None
    found = read_confidence(bundled)
    return found.spec if found.belongs_to == identity_of(spec) else None


def check_belongs(found: ConfidenceFile, spec: ModelSpec, path: str) -> None:
    """Check that a model was fitted with the exported network.

    Raises:
        CalibrationError: it was not; the message names what differs.
    """
    expected = identity_of(spec)
    different = [key for key, value in expected.items() if found.belongs_to.get(key) != value]
    if different:
        raise CalibrationError(f"--confidence {path} was fitted with another network (different: "
                               f"{', '.join(different)}); fit it again with this one: python -m "
                               "feredge.export.fit_confidence")
