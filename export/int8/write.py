"""The INT8 part of an export: ranges, the graphs made of them, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.placement import keyed_values, quantized_convs
from feredge.calibration.graphs.qdq import WEIGHT_BITS, Rounding, cpu_graph, nearest, tensorrt_graph
from feredge.calibration.graphs.sessions import evaluation_session, session_of
from feredge.calibration.measure.ranges_cache import cache_path, load_ranges, store_ranges
from feredge.calibration.measure.ranges_file import read_ranges
from feredge.calibration.measure.sweep import choose_method, measure
from feredge.calibration.quality.accuracy import quality_text
from feredge.calibration.quality.agreement import (
    Agreement,
    agreements,
    conv_macs,
    cpu_int8_convs,
    int8_share,
    tensorrt_int8_convs,
)
from feredge.calibration.quality.limits import Limits
from feredge.calibration.quality.plots import save_sensitivity_plot
from feredge.calibration.quality.sensitivity import sensitivity_text
from feredge.calibration.ranges import Ranges
from feredge.export.fp16 import check_half_answers, half_graph
from feredge.export.int8.gate import (
    LEAST_INT8_SHARE,
    TENSORRT,
    Judged,
    cpu_key,
    faces_rounding,
    held_to_limits,
    last_word,
)
from feredge.export.models.registry import WEIGHTS, Network
from feredge.export.network.parity import parity_crops
from feredge.export.network.to_onnx import save
from feredge.export.staging import file_sha256
from feredge.export.steps import Steps
from feredge.export.tensorrt.plan_files import SUFFIX_INT8, SUFFIX_INT8_HALF
from feredge.runtime.detect import DetectorOptions, open_detector
from feredge.runtime.detect.weights import detector_path
from feredge.runtime.errors import CalibrationError, ExportError
from feredge.runtime.machine import exact_8_bit_weights
from feredge.runtime.results import Array
from feredge.runtime.spec import ModelSpec, TargetSpec

if TYPE_CHECKING:
    from feredge.export.job import ExportOptions, Prepared

AUTO = "auto"


def write_int8(
    options: ExportOptions, prepared: Prepared, faces: FaceFolder | None, limits: Limits,
    folder: Path, name: str, steps: Steps,
) -> dict[str, Any]:
    """Write the two INT8 graphs and their ranges, and return what the report says of them.

    Raises:
        CalibrationError: there are no ranges for this checkpoint and no faces to measure them on.
        ExportError: too little of the graph is INT8; a GateError: it costs more than was allowed.
    """
    model, spec = prepared.model, prepared.spec
    ranges, origin = ranges_of(options, prepared, faces, steps)
    plot = folder / f"{name}.sensitivity.png"
    rounding = nearest if faces is None else faces_rounding(prepared, faces, steps)
    keep_float, judgement = judged_layers(options, prepared, ranges, faces, rounding, limits, plot,
                                          steps)
    bits = WEIGHT_BITS[options.cpu]
    cpu, macs = cpu_key(bits, rounding), conv_macs(model, spec.input.side)
    with steps.step("quantise"):
        graphs = {"tensorrt": tensorrt_graph(model, ranges, keep_float)}
        if options.fp16:
            graphs["tensorrt-fp16"] = half_graph(graphs["tensorrt"])
            crops = parity_crops(spec, faces)[0]
            check_half_answers(graphs["tensorrt-fp16"], graphs["tensorrt"], crops, quantised=True)
        shares = {key: int8_share(tensorrt_int8_convs(graph), macs)
                  for key, graph in graphs.items()}
        graphs |= {f"cpu-{b}bit": cpu_graph(model, ranges, keep_float, b) for b in (7, 8)}
        if rounding is not nearest:
            graphs[cpu] = cpu_graph(model, ranges, keep_float, bits, rounding)
        shares[cpu] = int8_share(cpu_int8_convs(graphs[cpu]), macs)
    check_shares(shares)
    if faces is not None:
        with steps.step("compare INT8 with FP32"):
            recorded = recorded_agreement(model, graphs, steps.bar(faces.batches(), faces))
        ranges = replace(ranges, recorded=recorded)
    (folder / f"{name}.ranges.json").write_text(ranges.to_json())
    report: dict[str, Any] = {
        "ranges": origin, "faces": ranges.faces, "method": ranges.method, "sweep": ranges.sweep,
        "compared": "recorded with the ranges" if faces is None else "measured just now",
        **judgement,
    }
    if options.validation_data is not None:
        shipped = {key: graphs[key] for key in (TENSORRT, cpu)}
        found = last_word(options, prepared, shipped, limits, steps)
        report["validation"] = asdict(found)
        report["tables"].append(quality_text(found))
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
        calibration = {"method": ranges.method, "faces": ranges.faces,
                       "sha256": ranges.faces_sha256}
        save(graphs[key], replace(spec, precision="int8", target=target, calibration=calibration,
                                  quality={**spec.quality, **facts}), folder / file)
    return report


def judged_layers(
    options: ExportOptions, prepared: Prepared, ranges: Ranges, faces: FaceFolder | None,
    rounding: Rounding, limits: Limits, plot: Path, steps: Steps,
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return what stays float so that INT8 keeps to its limits, and what the report says of it.

    Raises:
        GateError: INT8 costs more than was allowed, whatever stays float.
    """
    if faces is None:
        return tuple(prepared.network.keep_float), {"tables": []}
    judged = Judged(options, prepared, ranges, faces, rounding, steps)
    keep_float, report = held_to_limits(judged, limits, options)
    if options.sensitivity:
        rows = judged.rank(TENSORRT)
        save_sensitivity_plot(rows, plot)
        report["sensitivity"] = [asdict(row) for row in rows]
        report["tables"].append(sensitivity_text(rows))
    return keep_float, report


def face_folder(options: ExportOptions, spec: ModelSpec) -> FaceFolder:
    """Open the calibration faces: face crops, or scenes where `--detect` says so."""
    detector = None
    if options.detect:
        detector = open_detector(options.detector)
    assert options.calibration_data is not None
    return FaceFolder(options.calibration_data, spec.input, spec.crop, detector)


def identity_of(detector: DetectorOptions) -> list[Any]:
    """Return what decides which faces a detector finds: its file's hash, the size and score."""
    return [file_sha256(detector_path(detector.path)), detector.size_px, detector.min_score]


def ranges_of(
    options: ExportOptions, prepared: Prepared, faces: FaceFolder | None, steps: Steps
) -> tuple[Ranges, str]:
    """Return the ranges, by the method asked for, and where they are from.

    A ranges file wins over faces, these over what is bundled with the checkpoint.

    Raises:
        CalibrationError: the file is of something else, or there are no ranges for these weights.
    """
    if options.ranges is not None:
        ranges, origin = given_ranges(Path(options.ranges), prepared), "given"
    elif faces is not None:
        ranges, origin = measured_or_cached(options, prepared, faces, steps)
    else:
        ranges, origin = bundled_ranges(prepared.network, prepared.spec), "bundled"
    return with_method(ranges, options.calibration_method or AUTO), origin


def with_method(ranges: Ranges, method: str) -> Ranges:
    """Return the ranges with the method asked for in use; `auto` leaves what the sweep chose.

    Raises:
        CalibrationError: they were not measured by it.
    """
    if method in (AUTO, ranges.method):
        return ranges
    if any(method not in methods for methods in ranges.values.values()):
        raise CalibrationError(f"these ranges do not hold the method {method}; measure them anew: "
                               "pass --calibration-data FOLDER")
    return replace(ranges, method=method, recorded={})  # which was another method's cost


def identity(spec: ModelSpec) -> dict[str, Any]:
    """Return the weights, crop and input that ranges belong to, as JSON has them."""
    facts = {"checkpoint_sha256": spec.source.checkpoint_sha256, "crop": asdict(spec.crop),
             "input": asdict(spec.input)}
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def given_ranges(path: Path, prepared: Prepared) -> Ranges:
    """Read the ranges file that was named.

    Raises:
        CalibrationError: it cannot be read, or belongs to other weights, another crop or input.
    """
    try:
        spec = prepared.spec
        ranges = read_ranges(path, prepared.model, spec.source.checkpoint_sha256)
        ranges.check_belongs(**identity(spec))
    except CalibrationError as error:
        raise CalibrationError(f"--ranges {path}: {error}") from error
    return ranges


def measured_or_cached(
    options: ExportOptions, prepared: Prepared, faces: FaceFolder, steps: Steps
) -> tuple[Ranges, str]:
    """Measure the ranges on the faces, or take what an earlier export measured on the same.

    Raises:
        CalibrationError: no face can be read, or an activation is not finite.
    """
    spec, keep_float = prepared.spec, prepared.network.keep_float
    convs = quantized_convs(prepared.model.graph, keep_float)
    faces_sha256 = faces.sha256()
    found_by = [faces_sha256, faces.classes_of(spec.labels).tolist(), options.detect
                and identity_of(options.detector)]
    path = cache_path({**identity(spec), "faces": found_by})
    auto = options.calibration_method in (None, AUTO)
    kept = load_ranges(path, keyed_values(prepared.model.graph, convs))
    if kept is not None and (kept.sweep or not auto):
        return kept, "cached"
    with steps.step("measure ranges"):
        batches = steps.bar(faces.labeled_batches(spec.labels), faces)
        measured = measure(prepared.model, convs, batches, len(faces.files))
    empty = Ranges(faces=measured.faces, faces_sha256=faces_sha256, values={}, **identity(spec))
    if auto:
        with steps.step("try the calibration methods"):
            ranges = choose_method(prepared.model, keep_float, measured, empty)
    else:
        ranges = replace(empty, values=measured.bounds())
    store_ranges(path, ranges)
    return ranges, "measured"


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
    """Compare every INT8 graph with FP32, in the arithmetic of what will run it."""
    sessions = {key: evaluation_session(key, graph) for key, graph in graphs.items()
                if not key.startswith("cpu-8bit") or exact_8_bit_weights()}
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
