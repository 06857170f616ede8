"""A model repository for Triton, or any server that takes numbered ONNX folders.

Triton's repository describes its model configuration: `docs/user_guide/model_configuration.md`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from feredge.export.serving.base import ServedModel
from feredge.runtime.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAME

QUEUE_DELAY_US = 2000  # how long a request waits for others to fill a batch
CONFIG = """\
name: {name}
{backend}
max_batch_size: {max_batch}
input [
  {{ name: {input} data_type: TYPE_FP32 dims: [{dims}] }}
]
output [
  {{ name: {output} data_type: TYPE_FP32 dims: [{classes}] label_filename: "labels.txt" }}
]
dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}
model_warmup [
  {{
    name: "zeros"
    batch_size: 1
    inputs {{ key: {input} value {{ data_type: TYPE_FP32 dims: [{dims}] zero_data: true }} }}
  }}
]
parameters {{ key: {key} value {{ string_value: {spec} }} }}
"""
README = Path(__file__).with_name("triton.README.md")


def write(served: ServedModel, folder: Path) -> None:
    """Write `NAME/` for onnxruntime and, where there is a plan, `NAME_tensorrt/`."""
    write_model(served, served.name, served.onnx, folder)
    if served.plan is not None:
        write_model(served, f"{served.name}_tensorrt", served.plan, folder)
    text = README.read_text(encoding="utf-8")
    text = text.format(name=served.name, side=served.spec.input.side)
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "feredge.json").write_text(served.spec.to_json() + "\n", encoding="utf-8")


def write_model(served: ServedModel, name: str, artifact: Path, folder: Path) -> None:
    """Write one model: configuration, labels, and version 1."""
    version = folder / name / "1"
    version.mkdir(parents=True)
    shutil.copyfile(artifact, version / f"model{artifact.suffix}")
    labels = "\n".join(served.spec.labels) + "\n"
    (folder / name / "labels.txt").write_text(labels, encoding="utf-8")
    config = model_config(served, name, artifact.suffix == ".plan")
    (folder / name / "config.pbtxt").write_text(config, encoding="utf-8")


def model_config(served: ServedModel, name: str, is_plan: bool) -> str:
    """Return `config.pbtxt`; every string is quoted as JSON, which protobuf's text format reads."""
    backend = 'platform: "tensorrt_plan"' if is_plan else 'backend: "onnxruntime"'
    return CONFIG.format(
        name=quote(name), backend=backend, max_batch=served.max_batch, input=quote(INPUT_NAME),
        output=quote(OUTPUT_NAME), dims=", ".join(map(str, served.input_dims)),
        classes=len(served.spec.labels), delay_us=QUEUE_DELAY_US, key=quote(METADATA_KEY),
        spec=quote(served.spec.to_json()),
    )


def quote(text: str) -> str:
    """Return a string literal of protobuf's text format."""
    return json.dumps(text, ensure_ascii=False)
