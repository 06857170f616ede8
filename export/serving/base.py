"""What a server gets of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from feredge.runtime.spec import ModelSpec


@dataclass(frozen=True)
class ServedModel:
    """The files of one export that servers run.

    Attributes:
        name: the model's name on the server.
        spec: its ModelSpec.
        onnx: the ONNX file for onnxruntime (INT8 for CPUs, or FP32).
        qdq: the Q/DQ ONNX file for TensorRT, None for an export without INT8.
        plan: the TensorRT plan, None where none was built.
        max_batch: the most faces in one request.
    """

    name: str
    spec: ModelSpec
    onnx: Path
    qdq: Path | None = None
    plan: Path | None = None
    max_batch: int = 16

    @property
    def input_dims(self) -> tuple[int, int, int]:
        """Shape of one crop, `(3, side, side)`."""
        return (3, self.spec.input.side, self.spec.input.side)


def plan_for_servers(plan: Path | None) -> Path | None:
    """Return a plan if TensorRT built it; the servers cannot load one of TensorRT-RTX.

    Args:
        plan: a plan with its sidecar; None: there is none.
    """
    if plan is None:
        return None
    spec = ModelSpec.from_json(Path(f"{plan}.json").read_text(encoding="utf-8"))
    return plan if spec.target.kind == "tensorrt" else None
