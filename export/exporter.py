"""The export itself: checkpoint, ONNX, parity, INT8, report; every file whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from feredge.calibration.faces import FaceFolder
from feredge.calibration.placement import quantised_convs
from feredge.calibration.quality import (
    Agreement,
    agreements,
    conv_macs,
    cpu_int8_convs,
    int8_share,
    tensorrt_int8_convs,
)
from feredge.calibration.quantize import WEIGHT_BITS, cpu_graph, tensorrt_graph
from feredge.calibration.ranges import Ranges, measured_ranges
from feredge.calibration.sessions import session_of
from feredge.export.checkpoints import Checkpoint, load_checkpoint, load_into
from feredge.export.files import described_files, staged
from feredge.export.half import check_fits_half, check_half_answers, half_graph
from feredge.export.models import manet  # noqa: F401  (enters the registry)
from feredge.export.models.registry import NETWORKS, Network
from feredge.export.onnx_export import onnx_from_torch, save
from feredge.export.parity import parity_crops, with_parity
from feredge.export.plan_files import (
    SUFFIX_HALF,
    SUFFIX_INT8,
    SUFFIX_INT8_HALF,
    source_of,
    suffix_for,
    write_plan,
)
from feredge.export.plans import PlanOptions, check_options
from feredge.export.steps import Steps
from feredge.export.tensorrt_versions import TensorRT, chosen_kind, tensorrt_of
from feredge.runtime.cpu import exact_8_bit_weights
from feredge.runtime.detector import open_detector
from feredge.runtime.errors import CalibrationError, CheckpointError, ExportError, require
from feredge.runtime.faces import Array
from feredge.runtime.spec import CropSpec, InputSpec, ModelSpec, SourceSpec, TargetSpec

ONNX_ONLY = PlanOptions("onnx")
WEIGHTS = Path(__file__).parent / "weights"
# The gates and heads that stay float are under 1 % of the work: less than this is not INT8.
LEAST_INT8_SHARE = 0.9


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how; None takes the checkpoint's metadata or the network's default."""

    model: str
    checkpoint: str | None = None
    int8: bool = False
    fp16: bool = False
    cpu: str = "avx2"
    calibration_data: str | None = None
    detect: bool = False
    detector: str | None = None
    detector_size: int = 320
    min_score: float = 0.6
    output: str = "."
    name: str | None = None
    labels: tuple[str, ...] | None = None
    side: int | None = None
    channels: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_scale: float | None = None
    crop_shift_y: float | None = None


@dataclass(frozen=True)
class Prepared:
    """A checkpoint in its network, as torch and as ONNX, with its spec."""

    network: Network
    module: torch.nn.Module
    model: ir.Model
    spec: ModelSpec


def export(
    options: ExportOptions, steps: Steps, plan: PlanOptions = ONNX_ONLY
) -> dict[str, Any]:
    """Export a network; its files appear in `options.output` once all of them are complete.

    Returns:
        The report, as it is written to `NAME.report.json`.

    Raises:
        FeredgeError: what went wrong; no file is left then.
    """
    output, name = Path(options.output), options.name or options.model
    rt = plan_builder(plan)
    with staged(output) as folder:
        prepared = prepare(options, steps)
        faces = face_folder(options, prepared.spec) if options.calibration_data else None
        spec = with_parity(prepared.module, prepared.model, prepared.spec, faces, steps)
        prepared = replace(prepared, spec=spec)
        report: dict[str, Any] = {"parity": spec.quality["parity"]}
        save(prepared.model, spec, folder / f"{name}.onnx")
        if options.int8:
            report["int8"] = write_int8(options, prepared, faces, folder, name, steps)
        if options.fp16:
            report["fp16"] = write_half(prepared, faces, folder, name, steps)
        if rt is not None:
            source = source_of(folder / f"{name}{suffix_for(plan, rt)}")
            report["plan"] = write_plan(source, plan, rt, folder, name, steps)
        report = {"model": json.loads(spec.to_json()), **report, "seconds": steps.seconds,
                  "files": described_files(folder)}
        (folder / f"{name}.report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def plan_builder(plan: PlanOptions) -> TensorRT | None:
    """Return the TensorRT that builds the plan, if one is to be built; before any long step.

    Raises:
        PackageError: it is not installed.
        ExportError: it cannot do what is asked for, or needs a GPU.
    """
    kind = chosen_kind(plan.target)
    if kind is None:
        return None
    rt = tensorrt_of(kind)
    require("polygraphy", kind)
    check_options(plan, rt)
    rt.compute_capabilities()
    return rt


def prepare(options: ExportOptions, steps: Steps) -> Prepared:
    """Load the checkpoint into its network and export it to ONNX."""
    network = NETWORKS[options.model]
    with steps.step("read the checkpoint"):
        checkpoint = load_checkpoint(checkpoint_path(options, network))
        module = built(network, checkpoint)
        spec = spec_of(network, module, checkpoint, options)
    with steps.step("export to ONNX"):
        model = onnx_from_torch(module, spec.input.side)
    return Prepared(network, module, model, spec)


def checkpoint_path(options: ExportOptions, network: Network) -> Path:
    """Return the checkpoint that was named, or the bundled one.

    Raises:
        CheckpointError: none was named and none is bundled.
    """
    if options.checkpoint is not None:
        return Path(options.checkpoint)
    if network.checkpoint is None:
        raise CheckpointError(f"no weights are bundled for {network.name}: pass --checkpoint PATH")
    return WEIGHTS / network.checkpoint


def built(network: Network, checkpoint: Checkpoint) -> torch.nn.Module:
    """Build the network that a checkpoint was saved from, with its weights.

    Raises:
        CheckpointError: the checkpoint is another network's.
    """
    try:
        module = network.factory(checkpoint.state)
    except KeyError as error:
        first = ", ".join(list(checkpoint.state)[:3])
        raise CheckpointError(f"not a {network.name} checkpoint: it has no tensor {error}; its "
                              f"first are {first}") from error
    load_into(module, checkpoint.state)
    return module.eval()


def spec_of(
    network: Network, module: torch.nn.Module, checkpoint: Checkpoint, options: ExportOptions
) -> ModelSpec:
    """Put a ModelSpec together: the arguments win over the metadata, that over the defaults.

    Raises:
        CheckpointError: there are other numbers of classes and labels.
        ExportError: the network cannot take that side.
    """
    said, default = checkpoint.metadata, network.defaults
    labels = options.labels or tuple(filter(None, said.get("labels", "").split(",")))
    labels = labels or default.labels
    if len(labels) != module.classes:
        raise CheckpointError(f"the checkpoint has {module.classes} classes, but there are "
                              f"{len(labels)} labels: {','.join(labels)}; name its own, in the "
                              "order of its output, with --labels a,b,c")
    side = options.side or int(said.get("side", default.side))
    if side % default.side_multiple:
        raise ExportError(f"side {side}: {network.name} takes a multiple of "
                          f"{default.side_multiple} px")
    triples = {
        key: getattr(options, key) or numbers(said.get(key)) or getattr(default, key)
        for key in ("mean", "std")
    }
    channels = options.channels or said.get("channels", default.channels)
    scale, shift_y = (
        float(said.get(key, fallback)) if chosen is None else chosen
        for key, chosen, fallback in (("crop_scale", options.crop_scale, 1.0),
                                      ("crop_shift_y", options.crop_shift_y, 0.0))
    )
    source = SourceSpec(checkpoint.sha256, said.get("trained_on", "unknown"),
                        said.get("licence", "unknown"))
    return ModelSpec(
        model=network.name, variant=f"{module.variant}-{side}", labels=labels,
        input=InputSpec(side, channels, **triples), crop=CropSpec(scale, shift_y), source=source,
    )


def numbers(text: str | None) -> tuple[float, ...] | None:
    """Parse `0,0,0`."""
    return None if text is None else tuple(map(float, text.split(",")))


def face_folder(options: ExportOptions, spec: ModelSpec) -> FaceFolder:
    """Open the calibration faces: face crops, or scenes where `--detect` says so."""
    detector = None
    if options.detect:
        detector = open_detector(options.detector, options.detector_size, options.min_score)
    assert options.calibration_data is not None
    return FaceFolder(options.calibration_data, spec.input, spec.crop, detector)


def write_int8(
    options: ExportOptions, prepared: Prepared, faces: FaceFolder | None, folder: Path, name: str,
    steps: Steps,
) -> dict[str, Any]:
    """Write the two INT8 graphs and their ranges, and return what the report says of them.

    Raises:
        CalibrationError: there are no ranges for this checkpoint and no faces to measure them on.
        ExportError: too little of the graph is INT8.
    """
    model, spec, keep_float = prepared.model, prepared.spec, prepared.network.keep_float
    ranges = ranges_of(prepared, faces, steps)
    bits = WEIGHT_BITS[options.cpu]
    cpu, macs = f"cpu-{bits}bit", conv_macs(model, spec.input.side)
    with steps.step("quantise"):
        graphs = {"tensorrt": tensorrt_graph(model, ranges, keep_float)}
        if options.fp16:
            graphs["tensorrt-fp16"] = half_graph(graphs["tensorrt"])
            crops = parity_crops(spec, faces)[0]
            check_half_answers(graphs["tensorrt-fp16"], graphs["tensorrt"], crops, quantised=True)
        shares = {key: int8_share(tensorrt_int8_convs(graph), macs)
                  for key, graph in graphs.items()}
        graphs |= {f"cpu-{b}bit": cpu_graph(model, ranges, keep_float, b) for b in (7, 8)}
        shares[cpu] = int8_share(cpu_int8_convs(graphs[cpu]), macs)
    check_shares(shares)
    if faces is not None:
        with steps.step("compare INT8 with FP32"):
            recorded = recorded_agreement(model, graphs, steps.bar(faces.batches(), faces))
        ranges = replace(ranges, recorded=recorded)
    (folder / f"{name}.ranges.json").write_text(ranges.to_json())
    report: dict[str, Any] = {
        "ranges": "measured" if faces is not None else "bundled", "faces": ranges.faces,
    }
    targets = {
        f"{name}.int8.onnx": (cpu, TargetSpec("onnx", options.cpu, bits)),
        f"{name}{SUFFIX_INT8}": ("tensorrt", TargetSpec("tensorrt")),
    }
    if options.fp16:
        typed = TargetSpec("tensorrt", flags=("strongly_typed",))
        targets[f"{name}{SUFFIX_INT8_HALF}"] = ("tensorrt-fp16", typed)
    for file, (key, target) in targets.items():
        agreement = ranges.recorded.get(key)
        facts = {"int8_share": shares[key], "agreement": agreement}
        report[file] = facts
        calibration = {"method": "max", "faces": ranges.faces, "sha256": ranges.faces_sha256}
        save(graphs[key], replace(spec, precision="int8", target=target, calibration=calibration,
                                  quality={**spec.quality, **facts}), folder / file)
    return report


def write_half(
    prepared: Prepared, faces: FaceFolder | None, folder: Path, name: str, steps: Steps
) -> dict[str, Any]:
    """Write the FP16 graph, and return what the report says of it.

    Raises:
        ExportError: FP16 cannot hold an activation, or answers otherwise.
    """
    with steps.step("halve to FP16"):
        crops, origin = parity_crops(prepared.spec, faces)
        ranges = recorded_ranges(prepared, folder / f"{name}.ranges.json")
        largest = check_fits_half(prepared.model, crops, ranges)
        half = half_graph(prepared.model)
        difference = check_half_answers(half, prepared.model, crops)
    facts = {"largest_activation": largest, "largest_difference": difference, "on": origin,
             "recorded_ranges": len(ranges)}
    spec = replace(prepared.spec, precision="fp16",
                   quality={**prepared.spec.quality, "fp16": facts})
    save(half, spec, folder / f"{name}{SUFFIX_HALF}")
    return facts


def recorded_ranges(prepared: Prepared, path: Path) -> Mapping[str, Any]:
    """Return the ranges of this export or the bundled ones; none where neither are there."""
    if path.is_file():
        return Ranges.from_json(path.read_text()).values
    try:
        return bundled_ranges(prepared.network, prepared.spec).values
    except CalibrationError:
        return {}


def ranges_of(prepared: Prepared, faces: FaceFolder | None, steps: Steps) -> Ranges:
    """Measure the ranges on the faces, or take the ones bundled with the checkpoint.

    Raises:
        CalibrationError: no faces were given and no ranges are bundled for these weights.
    """
    spec = prepared.spec
    if faces is None:
        return bundled_ranges(prepared.network, spec)
    with steps.step("measure ranges"):
        convs = quantised_convs(prepared.model.graph, prepared.network.keep_float)
        batches = steps.bar(faces.batches(), faces)
        values, count = measured_ranges(prepared.model, convs, batches)
    return Ranges(spec.source.checkpoint_sha256, count, faces.sha256(), asdict(spec.crop), values)


def bundled_ranges(network: Network, spec: ModelSpec) -> Ranges:
    """Return the ranges bundled with a checkpoint.

    Raises:
        CalibrationError: there are none for these weights.
    """
    path = WEIGHTS / Path(network.checkpoint or "").with_suffix(".ranges.json").name
    ranges = Ranges.from_json(path.read_text()) if path.is_file() else None
    if ranges is None or ranges.checkpoint_sha256 != spec.source.checkpoint_sha256:
        raise CalibrationError("INT8 needs the ranges of this checkpoint's activations: pass "
                               "--calibration-data FOLDER with 500 or more pictures of faces")
    return ranges


def recorded_agreement(
    model: ir.Model, graphs: Mapping[str, ir.Model], batches: Iterable[Array]
) -> dict[str, Any]:
    """Compare every INT8 graph that this CPU can run exactly with FP32.

    TensorRT's graph is judged in float arithmetic: onnxruntime's integer kernels are not its own.
    """
    judged = {key: graph for key, graph in graphs.items()
              if key != "cpu-8bit" or exact_8_bit_weights()}
    sessions = {
        key: session_of(graph, integer_kernels=key.startswith("cpu"))
        for key, graph in judged.items()
    }
    found: dict[str, Agreement] = agreements(session_of(model), sessions, batches)
    return {key: asdict(agreement) for key, agreement in found.items()}


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse to call a graph INT8 that is not.

    Raises:
        ExportError: too little of its convolution work is.
    """
    for key, share in shares.items():
        if share < LEAST_INT8_SHARE:
            raise ExportError(f"only {share:.1%} of the {key} graph's convolution work is INT8, "
                              f"expected {LEAST_INT8_SHARE:.0%} or more; nothing was written")
