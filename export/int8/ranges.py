"""The INT8 ranges of an export: given, measured, cached or bundled."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.placement import keyed_values, quantized_convs
from feredge.calibration.measure.ranges_cache import cache_path, load_ranges, store_ranges
from feredge.calibration.measure.ranges_file import read_ranges
from feredge.calibration.measure.sweep import Measured, choose_method, measure
from feredge.calibration.ranges import Ranges
from feredge.export.job import ExportJob
from feredge.export.models.registry import WEIGHTS, Network
from feredge.export.staging import file_sha256
from feredge.runtime.detect import DetectorOptions
from feredge.runtime.detect.weights import detector_path
from feredge.runtime.errors import CalibrationError
from feredge.runtime.spec import ModelSpec

AUTO = "auto"


def identity_of(detector: DetectorOptions) -> list[Any]:
    """Return what determines a detector's faces: the hash of its file, its size and its score."""
    return [file_sha256(detector_path(detector.path)), detector.size_px, detector.min_score,
            detector.min_face_px]


def ranges_of(job: ExportJob) -> tuple[Ranges, str]:
    """Return the ranges by the requested method, and their origin.

    A ranges file takes precedence over faces, and faces over the bundled ranges.

    Raises:
        CalibrationError: the file belongs to other weights, or there are no ranges for these.
    """
    if job.options.ranges is not None:
        ranges, origin = load_given(Path(job.options.ranges), job), "given"
    elif job.faces is not None:
        ranges, origin = measure_or_load(job, job.faces)
    else:
        ranges, origin = bundled_ranges(job.network, job.spec), "bundled"
    return with_method(ranges, job.options.calibration_method or AUTO), origin


def with_method(ranges: Ranges, method: str) -> Ranges:
    """Return the ranges with the requested method in use; `auto` keeps the sweep's choice.

    Raises:
        CalibrationError: they were not measured by that method.
    """
    if method in (AUTO, ranges.method):
        return ranges
    if any(method not in methods for methods in ranges.values.values()):
        raise CalibrationError(f"these ranges do not hold the method {method}; measure them anew: "
                               "pass --calibration-data FOLDER")
    return replace(ranges, method=method, recorded={})  # the record is of another method


def identity(spec: ModelSpec) -> dict[str, Any]:
    """Return the weights, crop and input that ranges belong to, as JSON has them."""
    facts = {"checkpoint_sha256": spec.source.checkpoint_sha256, "crop": asdict(spec.crop),
             "input": asdict(spec.input)}
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def load_given(path: Path, job: ExportJob) -> Ranges:
    """Read the ranges file of `--ranges`.

    Raises:
        CalibrationError: it cannot be read, or belongs to other weights, another crop or input.
    """
    try:
        ranges = read_ranges(path, job.model, job.spec.source.checkpoint_sha256)
        ranges.check_belongs(**identity(job.spec))
    except CalibrationError as error:
        raise CalibrationError(f"--ranges {path}: {error}") from error
    return ranges


def measure_or_load(job: ExportJob, faces: FaceFolder) -> tuple[Ranges, str]:
    """Measure the ranges on the faces, or load those of an earlier export with the same input.

    Raises:
        CalibrationError: no face can be read, or an activation is not finite.
    """
    options, faces_sha256 = job.options, faces.sha256()
    convs = quantized_convs(job.model.graph, job.network.keep_float)
    detection = options.detect and identity_of(options.detector)
    found_by = [faces_sha256, faces.classes_of(job.spec.labels).tolist(), detection]
    path = cache_path({**identity(job.spec), "faces": found_by})
    cached = load_ranges(path, keyed_values(job.model.graph, convs))
    auto = options.calibration_method in (None, AUTO)
    if cached is not None and (cached.sweep or not auto):
        return cached, "cached"
    with job.steps.step("measure ranges"):
        batches = job.steps.bar(faces.labeled_batches(job.spec.labels), faces)
        measured = measure(job.model, convs, batches, len(faces.files))
    empty = Ranges(faces=measured.faces, faces_sha256=faces_sha256, values={}, **identity(job.spec))
    ranges = sweep(job, measured, empty) if auto else replace(empty, values=measured.bounds())
    store_ranges(path, ranges)
    return ranges, "measured"


def sweep(job: ExportJob, measured: Measured, empty: Ranges) -> Ranges:
    """Return the ranges by the method that loses least on the faces held out."""
    with job.steps.step("try the calibration methods"):
        return choose_method(job.model, job.network.keep_float, measured, empty)


def bundled_ranges(network: Network, spec: ModelSpec) -> Ranges:
    """Return the ranges bundled with a checkpoint.

    Raises:
        CalibrationError: there are none for these weights, this crop or this normalization.
    """
    ranges = None
    if network.checkpoint is not None:
        path = (WEIGHTS / network.checkpoint).with_suffix(".ranges.json")
        ranges = Ranges.from_json(path.read_text()) if path.is_file() else None
    if ranges is None or ranges.checkpoint_sha256 != spec.source.checkpoint_sha256:
        raise CalibrationError("INT8 needs the ranges of this checkpoint's activations: pass "
                               "--calibration-data FOLDER with 500 or more pictures of faces")
    ranges.check_belongs(**identity(spec))
    return ranges
