"""ModelSpec: what a network expects and how it was made; stored in or beside every artifact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feredge.runtime.checked_json import build, check, check_range, format_json, parse_json, show

FORMAT = 1
CONFIDENCE_FEATURES = ("log_odds", "margin", "score", "log_size_px", "log_sharpness",
                       "abs_roll_deg", "abs_yaw")
METADATA_KEY = "feredge"
MAX_LABELS, MAX_BATCH = 1000, 65_536
ALIGNMENTS = ("none", "roll")
INPUT_NAME, OUTPUT_NAME = "faces", "probabilities"
# The flags of a plan's builder; a strongly typed graph holds all other types itself.
PLAN_FLAGS = ("strongly_typed", "fp16", "int8", "tf32", "calibrator", "dla", "gpu_fallback")

def check_sha256(name: str, digest: str | None) -> None:
    """Check a field that holds a hash, if it does."""
    check(digest is None or re.fullmatch("[0-9a-f]{64}", digest) is not None,
          f"{name} is {show(digest)}, expected 64 hexadecimal digits")


@dataclass(frozen=True)
class InputSpec:
    """The network's input: `side` in px, `channels` rgb or bgr, mean and std of [0, 1] values."""

    side: int
    channels: str = "rgb"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Check every field."""
        check_range("input.side", self.side, 1, 4096)
        check(self.channels in ("rgb", "bgr"),
              f"input.channels is {show(self.channels)}, expected rgb or bgr")
        for name, triple in (("mean", self.mean), ("std", self.std)):
            check(len(triple) == 3,
                  f"input.{name} has {len(triple)} values, expected three numbers")
            for value in triple:
                check_range(f"input.{name}", value, -1e3 if name == "mean" else 1e-4, 1e3)


@dataclass(frozen=True)
class CropSpec:
    """How a face box becomes a square.

    `scale` times its longer side, moved down by `shift_y` of that, averaged where it shrinks if
    `antialias`. `align` roll turns it so that the eyes are level.
    """

    scale: float = 1.0
    shift_y: float = 0.0
    antialias: bool = True
    align: str = "none"

    def __post_init__(self) -> None:
        """Check every field."""
        check_range("crop.scale", self.scale, 0.05, 20)
        check_range("crop.shift_y", self.shift_y, -5, 5)
        check(self.align in ALIGNMENTS,
              f"crop.align is {self.align!r}, expected {' or '.join(ALIGNMENTS)}")


@dataclass(frozen=True)
class TargetSpec:
    """The target of an artifact.

    Attributes:
        kind: onnx, tensorrt or tensorrt-rtx.
        cpu, weight_bits: of an INT8 graph for CPUs.
        version, compute_capabilities: TensorRT and the GPUs of a plan, for example 8.7.
        profile: the smallest, usual and largest batch of a plan.
        flags, dla_core: of the plan's builder.
        onnx_sha256: the hash of the ONNX file of a plan.
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
              f"target.kind is {show(self.kind)}, expected one of {', '.join(kinds)}")
        check(self.weight_bits in (None, 7, 8),
              f"target.weight_bits is {self.weight_bits}, expected 7 or 8")
        gpus = self.compute_capabilities or ()
        check(all(re.fullmatch(r"\d+\.\d", gpu) for gpu in gpus),
              f"target.compute_capabilities are {show(list(gpus))}, expected the like of 8.7")
        profile = (1, 1, 1) if self.profile is None else self.profile
        check(len(profile) == 3 and 0 < profile[0] <= profile[1] <= profile[2] <= MAX_BATCH,
              f"target.profile is {show(list(profile))}, expected the smallest, usual and largest "
              "batch")
        unknown = set(self.flags) - set(PLAN_FLAGS)
        check(not unknown, f"target.flags hold {show(sorted(unknown))}, expected some of "
                           f"{', '.join(PLAN_FLAGS)}")
        check_sha256("target.onnx_sha256", self.onnx_sha256)


@dataclass(frozen=True)
class SourceSpec:
    """Where the weights come from: SHA-256 of the checkpoint, the data it saw, its licence.

    `random_weights` marks a network without training, whose predictions mean nothing.
    """

    checkpoint_sha256: str
    trained_on: str = "unknown"
    licence: str = "unknown"
    random_weights: bool = False


@dataclass(frozen=True)
class ConfidenceSpec:
    """A logistic model of the probability that a label is right, from its face's features.

    Attributes:
        weights: one weight per feature; the features are those of `runtime/quality.py`.
        bias: the log odds if all features are 0.
    """

    weights: Mapping[str, float]
    bias: float

    def __post_init__(self) -> None:
        """Check every field."""
        unknown = sorted(set(self.weights) - set(CONFIDENCE_FEATURES))
        check(not unknown, f"confidence.weights hold {show(unknown)}, expected some of "
                           f"{', '.join(CONFIDENCE_FEATURES)}")
        for value in (*self.weights.values(), self.bias):
            check_range("confidence.weights", value, -1e3, 1e3)


@dataclass(frozen=True)
class ModelSpec:
    """Everything that a runtime needs to serve a network, stored in or beside every artifact.

    Attributes:
        model, variant: the architecture, and what distinguishes this network of it.
        labels: the names of the classes, in the order of the output.
        input, crop, source, target: see their classes.
        precision: fp32, fp16 or int8.
        calibration, quality: measured facts, as the report shows them.
        sha256: the hash of the file that a sidecar describes; None inside an ONNX file.
        confidence: the model of the confidence; None: the probability of the label.
        format: the version of this format.
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
    confidence: ConfidenceSpec | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check every field."""
        check(self.format == FORMAT,
              f"format is {self.format}, this version reads {FORMAT}: export the model again")
        check(1 < len(self.labels) <= MAX_LABELS and len(set(self.labels)) == len(self.labels),
              f"labels are {show(list(self.labels))}, expected at least two, at most {MAX_LABELS}, "
              "all different")
        for name in (*self.labels, self.model, self.variant):
            check(0 < len(name) <= 200 and name.isprintable(),
                  f"the name {name[:60]!r} is not 1 to 200 printable characters")
        check(self.precision in ("fp32", "fp16", "int8"),
              f"precision is {show(self.precision)}, expected fp32, fp16 or int8")
        check_sha256("sha256", self.sha256)

    def to_json(self) -> str:
        """Return the JSON that `from_json` reads.

        Raises:
            SpecError: a measured fact is not a number of JSON, such as NaN.
        """
        return format_json(self)

    @staticmethod
    def from_json(text: str) -> ModelSpec:
        """Read what `to_json` wrote; fields of later versions are ignored.

        Raises:
            SpecError: not JSON, a field is missing, of another type, or out of its range.
        """
        return build(ModelSpec, parse_json(text), PARTS)


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
        check_range("size_px", self.size_px, 1, 32768)
        check_sha256("sha256", self.sha256)

    def to_json(self) -> str:
        """Return the JSON that `from_json` reads.

        Raises:
            SpecError: a measured fact is not a number of JSON, such as NaN.
        """
        return format_json(self)

    @staticmethod
    def from_json(text: str) -> DetectorSpec:
        """Read what `to_json` wrote; fields of later versions are ignored.

        Raises:
            SpecError: not JSON, a field is missing, of another type, or out of its range.
        """
        return build(DetectorSpec, parse_json(text), PARTS)


PARTS: dict[str, type[Any]] = {
    "input": InputSpec, "crop": CropSpec, "target": TargetSpec, "source": SourceSpec,
    "confidence": ConfidenceSpec,
}
