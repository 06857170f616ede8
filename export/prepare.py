"""The start of an export: options are checked, the network is loaded and becomes ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.quality.limits import Limits
from feredge.export.job import ExportJob
from feredge.export.models.registry import network_named
from feredge.export.network.build import LoadedNetwork, load_network, one_line
from feredge.export.network.to_onnx import onnx_from_torch
from feredge.export.options import ExportOptions
from feredge.export.steps import Steps
from feredge.runtime.detect import open_detector
from feredge.runtime.errors import CalibrationError, CheckpointError, ExportError
from feredge.runtime.spec import CropSpec, InputSpec, ModelSpec, SourceSpec


def open_job(options: ExportOptions, folder: Path, name: str, steps: Steps) -> ExportJob:
    """Check the options and the faces, load the network and export it to ONNX.

    Raises:
        CalibrationError: the limits or the faces cannot be used.
        CheckpointError: the weights cannot be used.
        ExportError: the network cannot be exported.
    """
    network, limits = network_named(options.model), limits_of(options)
    with steps.step("read the checkpoint"):
        loaded = load_network(network, options)
        spec = spec_of(network.name, loaded, options)
    faces = face_folder(options, spec) if options.calibration_data else None
    with steps.step("export to ONNX"):
        try:
            model = onnx_from_torch(loaded.module, spec.input.side)
        except Exception as error:  # torch's exporter raises many kinds for a user's own network
            raise ExportError(f"{network.name} cannot be exported to ONNX: "
                              f"{one_line(error.__cause__ or error)}") from error
    return ExportJob(options, network, loaded.module, model, spec, faces, limits, folder, name,
                     steps)


def limits_of(options: ExportOptions) -> Limits:
    """Return the limits on the cost of INT8.

    Raises:
        CalibrationError: a limit is out of range, or there are no faces to check it on.
    """
    limits = Limits(options.max_accuracy_drop, options.min_agreement, options.max_class_drop)
    given = limits.need_labels or options.min_agreement is not None
    if given and not (options.calibration_data or options.validation_data):
        raise CalibrationError("a limit needs faces to check INT8 on: pass --calibration-data DIR, "
                               "or labeled ones: --validation-data DIR")
    if options.calibrate_confidence and not options.validation_data:
        raise CalibrationError("--calibrate-confidence needs labeled faces: pass --validation-data "
                               "DIR, 200 or more")
    if options.sensitivity and not options.calibration_data:
        raise CalibrationError("--sensitivity needs faces: pass --calibration-data DIR")
    if options.validation_data and not Path(options.validation_data).is_dir():
        raise CalibrationError(f"--validation-data {options.validation_data}: there is no such "
                               "folder; it holds labeled faces, a folder a class")
    return limits


def face_folder(options: ExportOptions, spec: ModelSpec) -> FaceFolder:
    """Open the calibration faces: face crops, or scenes if `--detect` is given."""
    assert options.calibration_data is not None
    detector = open_detector(options.detector) if options.detect else None
    return FaceFolder(options.calibration_data, spec.input, spec.crop, detector)


def spec_of(model: str, loaded: LoadedNetwork, options: ExportOptions) -> ModelSpec:
    """Return the ModelSpec: of the options, else of the checkpoint's metadata, else defaults."""
    module, checkpoint, labels, side = loaded
    metadata = checkpoint.metadata
    source = SourceSpec(checkpoint.sha256, metadata.get("trained_on", "unknown"),
                        metadata.get("licence", "unknown"), options.random_weights)
    variant = "-".join(filter(None, (getattr(module, "variant", ""), str(side))))
    return ModelSpec(model=model, variant=variant, labels=labels,
                     input=input_spec(loaded, options), crop=crop_spec(loaded, options),
                     source=source)


def input_spec(loaded: LoadedNetwork, options: ExportOptions) -> InputSpec:
    """Return how a crop becomes the network's input."""
    metadata, default = loaded.checkpoint.metadata, network_named(options.model).defaults
    mean, std = (getattr(options, key) or stated_numbers(metadata, key) or getattr(default, key)
                 for key in ("mean", "std"))
    channels = options.channels or metadata.get("channels", default.channels)
    return InputSpec(loaded.side_px, channels, mean, std)


def crop_spec(loaded: LoadedNetwork, options: ExportOptions) -> CropSpec:
    """Return how a face box becomes a crop."""
    metadata = loaded.checkpoint.metadata
    scale, shift_y = (
        (stated_numbers(metadata, key) or (default,))[0] if chosen is None else chosen
        for key, chosen, default in (("crop_scale", options.crop_scale, 1.0),
                                     ("crop_shift_y", options.crop_shift_y, 0.0)))
    bundled = options.checkpoint is None and not options.random_weights
    align = options.crop_align or metadata.get("crop_align", "roll" if bundled else "none")
    return CropSpec(scale, shift_y, align=align)


def stated_numbers(metadata: Mapping[str, str], key: str) -> tuple[float, ...] | None:
    """Parse the numbers of the metadata, as `0,0,0`; None if it has none.

    Raises:
        CheckpointError: it states something else.
    """
    text = metadata.get(key)
    try:
        return None if text is None else tuple(map(float, text.split(",")))
    except ValueError as error:
        raise CheckpointError(f"the checkpoint's metadata states {key} {ascii(text)[:60]}, "
                              f"expected numbers: pass --{key.replace('_', '-')}") from error
