"""The options of an export: one dataclass that adds its own arguments and reads them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields

from feredge.calibration.measure.methods import METHODS
from feredge.export.tensorrt.options import PlanOptions
from feredge.runtime.command import positive_int
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.spec import ALIGNMENTS

CALIBRATION_METHODS = ("auto", *METHODS)
ONNX_ONLY = PlanOptions("onnx")


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how; None takes the checkpoint's metadata or the network's default.

    Each field is the argument of `fer-export` of the same name; `plan` and `detector` hold those
    of TensorRT and of the face detector. `quiet` hides progress.
    """

    model: str
    checkpoint: str | None = None
    random_weights: bool = False
    backbone_from: str | None = None
    int8: bool = False
    fp16: bool = False
    sweep_precisions: bool = False
    cpu: str = "avx2"
    calibration_data: str | None = None
    calibration_method: str | None = None
    ranges: str | None = None
    detect: bool = False
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    max_accuracy_drop: float | None = None
    min_agreement: float | None = None
    max_class_drop: float | None = None
    sensitivity: bool = False
    validation_data: str | None = None
    calibrate_confidence: bool = False
    confidence: str | None = None
    force: bool = False
    output: str = "."
    name: str | None = None
    labels: tuple[str, ...] | None = None
    side: int | None = None
    channels: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_scale: float | None = None
    crop_shift_y: float | None = None
    crop_align: str | None = None
    report: str | None = None
    serving: str | None = None
    plan: PlanOptions = ONNX_ONLY
    quiet: bool = False

    def __post_init__(self) -> None:
        """Turn on what the sweep of precisions consists of."""
        if self.sweep_precisions:
            object.__setattr__(self, "int8", True)
            object.__setattr__(self, "fp16", True)

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add every argument but those of TensorRT and of the face detector."""
        add_weight_arguments(parser)
        parser.add_argument("--output", default=".", metavar="DIR", help="output folder (.)")
        parser.add_argument("--name", help="name of the files (the model's name)")
        parser.add_argument("--report", choices=("html",),
                            help="also write the report as a page, beside NAME.report.json")
        parser.add_argument("--serving", choices=("triton", "deepstream"),
                            help="also write the folder NAME.triton or NAME.deepstream for that "
                                 "inference server")
        parser.add_argument("--calibrate-confidence", action="store_true",
                            help="fit a temperature on one half of --validation-data, so that the "
                                 "confidence is the accuracy; labels stay the same")
        parser.add_argument("--confidence", metavar="FILE",
                            help="the model of the confidence, from python -m "
                                 "feredge.export.fit_confidence (default: the bundled one, with "
                                 "bundled weights and detector)")
        add_int8_arguments(parser)
        add_input_arguments(parser)

    @classmethod
    def from_arguments(
        cls, arguments: argparse.Namespace, plan: PlanOptions = ONNX_ONLY
    ) -> ExportOptions:
        """Read the arguments."""
        names = {field.name for field in fields(cls)} - {"plan", "detector", "quiet"}
        given = {name: value for name, value in vars(arguments).items() if name in names}
        return cls(**given, plan=plan, detector=DetectorOptions.from_arguments(arguments),
                   quiet=arguments.json)


def add_weight_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the origin of the weights."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--checkpoint", metavar="PATH",
                         help="safetensors, state dict or .pth.tar (default: the bundled one)")
    weights.add_argument("--random-weights", action="store_true",
                         help="seeded weights, to time a network before it is trained")
    parser.add_argument("--backbone-from", metavar="PATH",
                        help="take the backbone of this checkpoint, trained on any task")


def add_int8_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of INT8."""
    int8 = parser.add_argument_group("INT8")
    int8.add_argument("--int8", action="store_true", help="also write INT8 graphs")
    int8.add_argument("--sweep-precisions", action="store_true",
                      help="write FP32, FP16 and INT8 with ranges by max and by entropy, and "
                           "compare them in one table")
    int8.add_argument("--calibration-data", metavar="DIR", help="pictures of faces, 500 or more")
    int8.add_argument("--calibration-method", choices=CALIBRATION_METHODS,
                      help="how ranges are chosen; auto (default) tries all on every fourth face "
                           "and keeps the simplest that no other beats")
    int8.add_argument("--ranges", metavar="FILE",
                      help="ranges, instead of measuring them: NAME.ranges.json of an earlier "
                           "export, another tool's Q/DQ ONNX file, or a TensorRT calibration "
                           "cache")
    int8.add_argument("--detect", action="store_true",
                      help="the calibration pictures are scenes: detect the faces in them")
    int8.add_argument("--cpu", choices=("avx2", "vnni", "arm"), default="avx2",
                      help="target of the CPU graph; avx2 (default) is exact on all of them")
    int8.add_argument("--sensitivity", action="store_true",
                      help="measure the cost of INT8 in every layer: table, PNG and SVG")
    int8.add_argument("--validation-data", metavar="DIR",
                      help="labeled faces, a folder a class, read once: the report states the cost "
                           "of INT8 on them, and the limits apply to them too")
    add_limit_arguments(int8)


def add_limit_arguments(int8: argparse._ArgumentGroup) -> None:
    """Add the limits on the cost of INT8."""
    int8.add_argument("--min-agreement", type=float, metavar="SHARE",
                      help="lowest top-1 agreement with FP32; below it the most sensitive layers "
                           "stay in FP32, or the export fails (0.98)")
    int8.add_argument("--max-accuracy-drop", type=float, metavar="POINTS",
                      help="largest loss of accuracy on labeled faces, as 0.5")
    int8.add_argument("--max-class-drop", type=float, metavar="POINTS",
                      help="largest loss of a class's recall on labeled faces; one face is always "
                           "allowed (10)")
    int8.add_argument("--force", action="store_true",
                      help="export INT8 although too few faces are given to check it")


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a checkpoint without metadata does not state."""
    group = parser.add_argument_group("input and labels, where the checkpoint does not state them")
    group.add_argument("--labels", type=names, metavar="A,B,...", help="classes, in output order")
    group.add_argument("--side", type=positive_int, metavar="PX",
                       help="side of the network's input")
    group.add_argument("--channels", choices=("rgb", "bgr"), help="channel order of the input")
    group.add_argument("--mean", type=triple, metavar="R,G,B", help="on the [0, 1] scale")
    group.add_argument("--std", type=triple, metavar="R,G,B", help="on the [0, 1] scale")
    group.add_argument("--crop-scale", type=float, metavar="X",
                       help="side of the crop, as a multiple of the face box's longer side")
    group.add_argument("--crop-shift-y", type=float, metavar="X",
                       help="downward shift of the crop, as a share of its side")
    group.add_argument("--crop-align", choices=ALIGNMENTS,
                       help="roll: turn the crop so that the eyes are level (default: roll for "
                            "the bundled networks, none for others)")


def names(text: str) -> tuple[str, ...]:
    """Parse `a,b,c`."""
    return tuple(name.strip() for name in text.split(","))


def triple(text: str) -> tuple[float, ...]:
    """Parse `0.5,0.5,0.5`."""
    values = tuple(float(part) for part in text.split(","))
    if len(values) != 3:
        raise ValueError
    return values
