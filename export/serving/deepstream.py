"""A secondary classifier for DeepStream's nvinfer, behind any detector of faces.

Keys: `gstnvinfer_property_parser.h` of DeepStream 9. nvinfer computes
`net-scale-factor * (pixel - offset)`, so it has one scale for all channels.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from feredge.export.serving.base import ServedModel
from feredge.runtime.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, InputSpec

CONFIG_NAME = "config_infer_secondary.txt"
MODES = {"fp32": 0, "int8": 1, "fp16": 2}
COLOR_FORMATS = {"rgb": 0, "bgr": 1}
CLASSIFIER, SECONDARY = 1, 2
# nvinfer builds INT8 only if this file is there, else FP16. TensorRT does not use it for a network
# with Q/DQ nodes.
CALIBRATION_NAME = "unused_calibration.cache"
CALIBRATION = "TRT-100000-EntropyCalibration2\n"
README = Path(__file__).with_name("deepstream.README.md")
UNIFORM_STD = "The standard deviation is part of `net-scale-factor`."
FOLDED_STD = ("The channels have different standard deviations, for which nvinfer has no key: "
              "`{file}` divides by them itself, in its first node.")


def write(served: ServedModel, folder: Path) -> None:
    """Write configuration, labels, README, and the network, with its plan where there is one."""
    source = served.qdq or served.onnx
    file = folder / source.name
    if is_uniform(served.spec.input):
        shutil.copyfile(source, file)
        note = UNIFORM_STD
    else:
        write_with_std(source, served.spec.input, file)
        note = FOLDED_STD.format(file=file.name)
    if served.plan is not None and is_uniform(served.spec.input):
        shutil.copyfile(served.plan, folder / served.plan.name)
    if served.qdq is not None:
        (folder / CALIBRATION_NAME).write_text(CALIBRATION, encoding="utf-8")
    (folder / "labels.txt").write_text(";".join(served.spec.labels) + "\n", encoding="utf-8")
    lines = [f"{key}={value}" for key, value in properties(served, file.name).items()]
    (folder / CONFIG_NAME).write_text("\n".join(["[property]", *lines]) + "\n", encoding="utf-8")
    text = README.read_text(encoding="utf-8").format(
        name=served.name, config=CONFIG_NAME, scale=served.spec.crop.scale,
        shift=served.spec.crop.shift_y, std=note)
    (folder / "README.md").write_text(text, encoding="utf-8")


def is_uniform(spec: InputSpec) -> bool:
    """Return whether all channels have the same standard deviation."""
    return len(set(spec.std)) == 1


def properties(served: ServedModel, onnx_name: str) -> dict[str, Any]:
    """Return nvinfer's `[property]` group."""
    spec = served.spec.input
    std = spec.std[0] if is_uniform(spec) else 1.0
    mode = MODES["int8" if served.qdq else served.spec.precision]
    files = {"model-engine-file": served.plan.name} if served.plan and is_uniform(spec) else {}
    files |= {"int8-calib-file": CALIBRATION_NAME} if served.qdq else {}
    return {
        "gpu-id": 0, "gie-unique-id": 2, "process-mode": SECONDARY, "operate-on-gie-id": 1,
        "operate-on-class-ids": 0, "network-type": CLASSIFIER, "network-mode": mode,
        "onnx-file": onnx_name, **files, "labelfile-path": "labels.txt",
        "batch-size": served.max_batch, "infer-dims": ";".join(map(str, served.input_dims)),
        "model-color-format": COLOR_FORMATS[spec.channels],
        "net-scale-factor": repr(1 / (255 * std)),
        "offsets": ";".join(f"{255 * mean:.9g}" for mean in spec.mean),
        "maintain-aspect-ratio": 1, "symmetric-padding": 1, "output-blob-names": OUTPUT_NAME,
        "classifier-threshold": 0, "classifier-async-mode": 0, "secondary-reinfer-interval": 0,
        "input-object-min-width": 16, "input-object-min-height": 16,
    }


def write_with_std(source: Path, spec: InputSpec, target: Path) -> None:
    """Write a network whose first node divides by each channel's standard deviation.

    Its input is `pixel / 255 - mean`. A node of its own is exact before a quantized convolution,
    too, whose input range stays what it is; new weights of the convolution would not be.
    """
    import onnx_ir as ir

    model = ir.load(source)
    graph = model.graph
    inverse = np.reshape(1 / np.array(spec.std, np.float32), (1, 3, 1, 1))
    factor = ir.Value(name="inverse_std", const_value=ir.tensor(inverse, name="inverse_std"))
    graph.register_initializer(factor)
    faces = next(value for value in graph.inputs if value.name == INPUT_NAME)
    node = ir.node("Mul", [faces, factor], name="divide_by_std")
    users = [use for use in faces.uses() if use.node is not node]
    for use in users:
        use.node.replace_input_with(use.idx, node.outputs[0])
    graph.insert_before(next(iter(graph)), node)
    model.metadata_props.pop(METADATA_KEY, None)  # it would be wrong for this input
    ir.save(model, target)
