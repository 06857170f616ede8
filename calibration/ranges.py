"""Activation ranges: measured once from real faces, kept as JSON, the one truth for every graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from feredge.runtime.errors import CalibrationError

FORMAT = 1


@dataclass(frozen=True)
class Ranges:
    """The range of every tensor that some INT8 graph quantises.

    `values` maps a key like `layer1.0.conv1:input` to `(min, max)` per method; `method` is the one
    in use. They hold for the weights, faces, crop and input named beside them. `recorded` keeps
    what INT8 with them cost, `sweep` how the methods did on the faces held out.
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

    def of(self, keys: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Return the ranges of the tensors that a graph quantises, by the method in use.

        Raises:
            CalibrationError: some have none.
        """
        missing = [key for key in keys if self.method not in self.values.get(key, {})]
        if missing:
            raise CalibrationError(
                f"ranges cover {len(keys) - len(missing)} of {len(keys)} quantised tensors; "
                f"missing: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}. "
                "Calibrate again with this checkpoint: pass --calibration-data"
            )
        return {key: self.values[key][self.method] for key in keys}

    def check_belongs(
        self, checkpoint_sha256: str, crop: Mapping[str, Any] | None = None,
        input: Mapping[str, Any] | None = None,
    ) -> None:
        """Check that the ranges were measured on these weights, on faces cut like this.

        Args:
            checkpoint_sha256: of the weights.
            crop: the spec's, as JSON has it; None leaves it unchecked.
            input: the spec's, in the same form.

        Raises:
            CalibrationError: they were not; it says what differs.
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
        """Return the JSON that `from_json` reads, a line a tensor."""
        document = asdict(self)
        values = document.pop("values")
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(values[key])}" for key in values)
        head = json.dumps(document, indent=1)
        return f"{head[:-2]},\n \"values\": {{\n{lines}\n }}\n}}\n"

    @staticmethod
    def from_json(text: str) -> Ranges:
        """Read what `to_json` wrote.

        Raises:
            CalibrationError: it is not a ranges file, or a truncated one.
        """
        try:
            document = json.loads(text)
            values = {
                key: {method: (float(low), float(high)) for method, (low, high) in methods.items()}
                for key, methods in document.pop("values").items()
            }
            ranges = Ranges(values=values, **document)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CalibrationError(f"not a ranges file, or a truncated one: {error}") from error
        if ranges.format != FORMAT:
            raise CalibrationError(f"ranges of format {ranges.format}, expected {FORMAT}")
        return ranges
