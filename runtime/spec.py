"""ModelSpec: what a network expects and what is known of it; the one contract between the rooms."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from math import isfinite
from typing import Any, TypeVar

from feredge.runtime.errors import SpecError

FORMAT = 1
METADATA_KEY = "feredge"
INPUT_NAME, OUTPUT_NAME = "faces", "probabilities"
# What a plan's builder can have been told; a strongly typed graph says the rest itself.
PLAN_FLAGS = ("strongly_typed", "fp16", "int8", "tf32", "calibrator", "dla", "gpu_fallback")

T = TypeVar("T")


def check(holds: bool, message: str) -> None:
    """Raise a SpecError unless a field is as it must be."""
    if not holds:
        raise SpecError(message)


def check_sha256(name: str, digest: str | None) -> None:
    """Check a field that holds a hash, if it does."""
    check(digest is None or re.fullmatch("[0-9a-f]{64}", digest) is not None,
          f"{name} is {digest!r}, expected 64 hexadecimal digits")


@dataclass(frozen=True)
class InputSpec:
    """The network's input: `side` in px, `channels` rgb or bgr, mean and std of [0, 1] values."""

    side: int
    channels: str = "rgb"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Check every field."""
        check(0 < self.side <= 4096, f"input.side is {self.side}, expected 1 to 4096 px")
        check(self.channels in ("rgb", "bgr"),
              f"input.channels is {self.channels!r}, expected rgb or bgr")
        for name, triple in (("mean", self.mean), ("std", self.std)):
            check(len(triple) == 3 and all(map(isfinite, triple)),
                  f"input.{name} is {triple}, expected three numbers")
        check(min(self.std) > 0, f"input.std is {self.std}, expected numbers above 0")


@dataclass(frozen=True)
class CropSpec:
    """How a face box becomes a square.

    `scale` times its longer side, moved down by `shift_y` of that, averaged where it shrinks if
    `antialias`.
    """

    scale: float = 1.0
    shift_y: float = 0.0
    antialias: bool = True

    def __post_init__(self) -> None:
        """Check every field."""
        check(isfinite(self.scale) and self.scale > 0, f"crop.scale is {self.scale}, not above 0")
        check(isfinite(self.shift_y), f"crop.shift_y is {self.shift_y}, not a number")


@dataclass(frozen=True)
class TargetSpec:
    """What an artifact was made for.

    `kind` is onnx, tensorrt or tensorrt-rtx; `cpu` and `weight_bits` belong to INT8 graphs for
    CPUs, the rest to plans: the TensorRT `version`, the GPUs (as `8.7`), the smallest, usual and
    largest batch, what the builder was told, the SHA-256 of the ONNX file, and the DLA core.
    """

    kind: str = "onnx"
    cpu: str | None = None
    weight_bits: int | None = None
    version: str | None = None
    compute_capabilities: tuple[str, ...] | None = None
    profile: tuple[int, ...] | None = None
    flags: tuple[str, ...] = ()
    onnx_sha256: str | None = None
    dla_core: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        kinds = ("onnx", "tensorrt", "tensorrt-rtx")
        check(self.kind in kinds,
              f"target.kind is {self.kind!r}, expected one of {', '.join(kinds)}")
        check(self.weight_bits in (None, 7, 8),
              f"target.weight_bits is {self.weight_bits}, expected 7 or 8")
        gpus = self.compute_capabilities or ()
        check(all(re.fullmatch(r"\d+\.\d", gpu) for gpu in gpus),
              f"target.compute_capabilities are {gpus}, expected the like of 8.7")
        profile = (1, 1, 1) if self.profile is None else self.profile
        check(len(profile) == 3 and 0 < profile[0] <= profile[1] <= profile[2],
              f"target.profile is {self.profile}, expected the smallest, usual and largest batch")
        unknown = set(self.flags) - set(PLAN_FLAGS)
        check(not unknown, f"target.flags hold {sorted(unknown)}, expected {', '.join(PLAN_FLAGS)}")
        check_sha256("target.onnx_sha256", self.onnx_sha256)


@dataclass(frozen=True)
class SourceSpec:
    """Where the weights come from: SHA-256 of the checkpoint, the data it saw, its licence.

    `random_weights` means that it saw none: such a network's answers say nothing.
    """

    checkpoint_sha256: str
    trained_on: str = "unknown"
    licence: str = "unknown"
    random_weights: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """Everything a runtime must know to serve a network, stored in or beside every artifact.

    `labels` are in the order of the output. `calibration` and `quality` hold measured facts as
    they are reported; `sha256` is that of the file a sidecar describes.
    """

    model: str
    variant: str
    labels: tuple[str, ...]
    input: InputSpec
    source: SourceSpec
    crop: CropSpec = CropSpec()
    precision: str = "fp32"
    target: TargetSpec = TargetSpec()
    calibration: Mapping[str, Any] | None = None
    quality: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check every field."""
        check(self.format == FORMAT,
              f"format is {self.format}, this version reads {FORMAT}: export the model again")
        check(len(self.labels) > 1 and len(set(self.labels)) == len(self.labels),
              f"labels are {self.labels}, expected at least two, all different")
        check(self.precision in ("fp32", "fp16", "int8"),
              f"precision is {self.precision!r}, expected fp32, fp16 or int8")
        check_sha256("sha256", self.sha256)

    def to_json(self) -> str:
        """Return the JSON that `from_json` reads."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> ModelSpec:
        """Read what `to_json` wrote; fields of later versions are passed over.

        Raises:
            SpecError: not JSON, a field is missing, of another type, or out of its range.
        """
        return parsed(ModelSpec, document_of(text), "")


@dataclass(frozen=True)
class DetectorSpec:
    """What a face detector's plan was made for, stored beside it.

    `size_px` is the longest side of a canvas that it takes, `sha256` that of the plan.
    """

    target: TargetSpec
    sha256: str
    size_px: int
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check every field."""
        check(self.format == FORMAT,
              f"format is {self.format}, this version reads {FORMAT}: export the detector again")
        check(self.size_px > 0, f"size_px is {self.size_px}, expected 1 px or more")
        check_sha256("sha256", self.sha256)

    def to_json(self) -> str:
        """Return the JSON that `from_json` reads."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> DetectorSpec:
        """Read what `to_json` wrote; fields of later versions are passed over.

        Raises:
            SpecError: not JSON, a field is missing, of another type, or out of its range.
        """
        return parsed(DetectorSpec, document_of(text), "")


def document_of(text: str) -> Any:
    """Parse JSON.

    Raises:
        SpecError: it is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise SpecError(f"not JSON: {error}") from error


PARTS: dict[str, type[Any]] = {
    "input": InputSpec, "crop": CropSpec, "target": TargetSpec, "source": SourceSpec,
}
# A field's annotation is a string here: the JSON types that it takes.
JSON_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,),
    "tuple[float, ...]": (list,), "tuple[str, ...]": (list,), "tuple[int, ...]": (list,),
    "Mapping[str, Any]": (dict,),
}
ITEM_TYPES: dict[str, tuple[type, ...]] = {
    "tuple[float, ...]": (int, float), "tuple[str, ...]": (str,), "tuple[int, ...]": (int,),
}


def parsed(cls: type[T], document: Any, where: str) -> T:
    """Build a frozen dataclass of this module from its JSON object."""
    check(isinstance(document, dict), f"{where or 'the document'} is not an object")
    values: dict[str, Any] = {}
    for item in fields(cls):  # type: ignore[arg-type]
        name = f"{where}{item.name}"
        if item.name not in document:
            required = item.default is MISSING and item.default_factory is MISSING
            check(not required, f"{name} is missing")
        elif item.name in PARTS:
            values[item.name] = parsed(PARTS[item.name], document[item.name], f"{name}.")
        else:
            values[item.name] = typed(document[item.name], str(item.type), name)
    return cls(**values)


def typed(value: Any, annotation: str, name: str) -> Any:
    """Check one JSON value against a field's annotation; a list becomes a tuple."""
    base = annotation.removesuffix(" | None")
    if value is None and base != annotation:
        return None
    wanted = JSON_TYPES[base]
    fits = isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool))
    fits = fits and all(isinstance(item, ITEM_TYPES[base]) for item in value) if (
        fits and base in ITEM_TYPES) else fits
    check(fits, f"{name} is {value!r}, expected {base}")
    return tuple(value) if isinstance(value, list) else value
