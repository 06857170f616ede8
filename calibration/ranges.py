"""Activation ranges: measured once from real faces, stored as JSON, used by every INT8 graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from feredge.runtime.errors import CalibrationError

FORMAT = 1
LARGEST = 1e9  # an activation beyond this is an overflow, not a feature
FIELDS: dict[str, type | tuple[type, ...]] = {
    "checkpoint_sha256": str, "faces": int, "faces_sha256": str, "crop": Mapping,
    "recorded": Mapping, "format": int, "method": str, "input": Mapping, "sweep": (list, tuple),
}


@dataclass(frozen=True)
class Ranges:
    """The range of every tensor that an INT8 graph quantizes.

    Attributes:
        checkpoint_sha256: of the weights that the ranges belong to.
        faces: how many faces they were measured on.
        faces_sha256: of the pictures.
        crop: how the faces were cut, as `CropSpec` in JSON.
        values: `(min, max)` by tensor (`layer1.0.conv1:input`) and method.
        recorded: the agreement of the INT8 graphs with FP32.
        method: the method in use.
        input: how the faces were normalized, as `InputSpec` in JSON.
        sweep: the results of the methods on the faces held out.

    Raises:
        CalibrationError: a field has another type, or a range is not finite, reversed or larger
            than any activation; the message names the tensor.
    """

    checkpoint_sha256: str
    faces: int
    faces_sha256: str
    crop: Mapping[str, Any]
    values: Mapping[str, Mapping[str, tuple[float, float]]]
    recorded: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    method: str = "max"
    input: Mapping[str, Any] = field(default_factory=dict)
    sweep: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, kind in FIELDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise CalibrationError(f"ranges: {name} is {str(value)[:40]!r}, expected "
                                       f"{kind.__name__ if isinstance(kind, type) else 'list'}")
        if self.format != FORMAT:
            raise CalibrationError(f"ranges of format {self.format}, expected {FORMAT}")
        for key, methods in self.values.items():
            for bounds in methods.values():
                check_bounds(key, *bounds)

    def of(self, keys: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Return the ranges of the tensors that a graph quantizes, by the method in use.

        Raises:
            CalibrationError: some tensors have none.
        """
        missing = [key for key in keys if self.method not in self.values.get(key, {})]
        if missing:
            raise CalibrationError(
                f"ranges cover {len(keys) - len(missing)} of {len(keys)} quantized tensors; "
                f"missing: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}. "
                "Calibrate again with this checkpoint: pass --calibration-data"
            )
        return {key: self.values[key][self.method] for key in keys}

    def check_belongs(
        self, checkpoint_sha256: str, crop: Mapping[str, Any] | None = None,
        input: Mapping[str, Any] | None = None,
    ) -> None:
        """Check that the ranges were measured on these weights, on faces cropped like this.

        Args:
            checkpoint_sha256: of the weights.
            crop: `CropSpec` in JSON; None is not checked.
            input: `InputSpec` in JSON; None is not checked.

        Raises:
            CalibrationError: something differs; the message says what.
        """
        if self.checkpoint_sha256 != checkpoint_sha256:
            raise CalibrationError(
                f"these ranges belong to weights {self.checkpoint_sha256[:12]}, the checkpoint is "
                f"{checkpoint_sha256[:12]}; calibrate again: pass --calibration-data FOLDER"
            )
        parts = ("crop", self.crop, crop or self.crop), ("input", self.input, input or self.input)
        for name, own, expected in parts:
            for key, value in own.items():
                if value != expected.get(key):
                    raise CalibrationError(
                        f"these ranges belong to {name} {key} {value}, this export's is "
                        f"{expected.get(key)}; calibrate again: pass --calibration-data FOLDER")

    def to_json(self) -> str:
        """Return the JSON that `from_json` reads, one line per tensor."""
        document = asdict(self)
        values = document.pop("values")
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(values[key])}" for key in values)
        head = json.dumps(document, indent=1)
        return f"{head[:-2]},\n \"values\": {{\n{lines}\n }}\n}}\n"

    @staticmethod
    def from_json(text: str) -> Ranges:
        """Read the JSON that `to_json` wrote.

        Raises:
            CalibrationError: it is no ranges file, is truncated, or holds an invalid range.
        """
        try:
            document = json.loads(text)
            values = {key: {method: parse_bounds(key, pair) for method, pair in methods.items()}
                      for key, methods in document.pop("values").items()}
            json.dumps(document, allow_nan=False)
            return Ranges(values=values, **document)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CalibrationError(f"not a ranges file, or a truncated one: {error}") from error


def parse_bounds(key: str, pair: Any) -> tuple[float, float]:
    """Return a range from its JSON.

    Raises:
        CalibrationError: it is not two numbers.
    """
    numbers = isinstance(pair, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in pair)
    if not numbers or len(pair) != 2:
        raise CalibrationError(f"the range of {key} is {str(pair)[:40]!r}, expected [min, max]")
    try:
        return float(pair[0]), float(pair[1])
    except OverflowError as error:
        raise CalibrationError(f"the range of {key} is too large for a number") from error


def check_bounds(key: str, low: float, high: float) -> None:
    """Refuse a range that INT8 cannot represent.

    Raises:
        CalibrationError: it is not finite, reversed, or larger than any activation.
    """
    if not (isfinite(low) and isfinite(high) and low <= high and max(-low, high) <= LARGEST):
        raise CalibrationError(f"the range of {key} is {low:g} to {high:g}, expected finite "
                               f"numbers up to {LARGEST:g}, the smaller first: calibrate again")
