"""Baselines: the same weights in other runtimes.

Each is set up as its documentation recommends for low latency; none is tuned further.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from feredge.benchmarks.bench.candidates import Candidate
from feredge.runtime.engines import Engine
from feredge.runtime.engines.onnxruntime import open_session
from feredge.runtime.environment import load_onnxruntime
from feredge.runtime.errors import CheckpointError, EngineError, PackageError, require
from feredge.runtime.machine import cores
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME

FORMS = (".int8.onnx", ".int8.qdq.onnx", ".fp16.onnx", ".int8.fp16.onnx", ".onnx", ".plan")


@dataclass(frozen=True)
class Subject:
    """The first engine, whose network every baseline runs."""

    path: Path
    engine: Engine
    checkpoint: Path | None = None


def sibling_path(path: Path, suffix: str, what: str) -> Path:
    """Return another file of the same export.

    Args:
        path: the engine.
        suffix: of the other file, as `.int8.qdq.onnx`.
        what: the option that needs the file, for the error message.

    Raises:
        EngineError: the file is not beside the engine.
    """
    own = max((form for form in FORMS if path.name.endswith(form)), key=len)
    other = path.with_name(path.name.removesuffix(own) + suffix)
    if not other.is_file():
        raise EngineError(f"{what} needs {other}, which does not exist; export again with --int8, "
                          "or copy the file beside the engine")
    return other


def torch_module(subject: Subject) -> Any:
    """Return the network in torch, with the weights of the engine's export.

    Raises:
        CheckpointError: the checkpoint is another one, or none is bundled.
    """
    require("torch", "export")
    from feredge.export import ExportOptions
    from feredge.export.models.registry import network_named
    from feredge.export.network.build import build_module, checkpoint_of

    spec = subject.engine.spec
    network = network_named(spec.model)
    path = None if subject.checkpoint is None else str(subject.checkpoint)
    checkpoint = checkpoint_of(network, ExportOptions(spec.model, path))
    if checkpoint.sha256 != spec.source.checkpoint_sha256:
        raise CheckpointError(f"{subject.path} was not exported from "
                              f"{path or 'the bundled checkpoint'}; pass the checkpoint of its "
                              "export with --checkpoint")
    return build_module(network, checkpoint, len(spec.labels), spec.input.side)


def torch_infer(module: Any) -> Callable[[Array], Array]:
    """Return a torch module as a function of `(n, 3, side, side)` float32, without gradients."""
    import torch

    def infer(crops: Array) -> Array:
        with torch.inference_mode():
            predictions: Array = module(torch.from_numpy(crops)).numpy()
        return predictions

    return infer


def torch_eager(subject: Subject) -> Iterator[Candidate]:
    """Yield the network in eager torch."""
    yield Candidate("torch", "fp32", torch_infer(torch_module(subject)))


def torch_compile(subject: Subject) -> Iterator[Candidate]:
    """Yield the network compiled by torch, once per batch size."""
    module = torch_module(subject)
    if shutil.which("g++") is None:
        raise PackageError("torch.compile needs g++, which is not installed; install it, or leave "
                           "out --baseline torch-compile")
    import torch

    yield Candidate("torch-compile", "fp32", torch_infer(torch.compile(module, dynamic=False)))


def bare_fp32(subject: Subject) -> Iterator[Candidate]:
    """Yield the FP32 graph in onnxruntime with its default settings."""
    ort = load_onnxruntime()
    path = sibling_path(subject.path, ".onnx", "--baseline onnxruntime-fp32")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    yield Candidate("onnxruntime-fp32", "fp32", session_infer(session))


def session_infer(session: Any) -> Callable[[Array], Array]:
    """Return an onnxruntime session as a function of `(n, 3, side, side)` float32."""
    return lambda crops: session.run([OUTPUT_NAME], {INPUT_NAME: crops})[0]


def own_session(subject: Subject) -> Iterator[Candidate]:
    """Yield the engine's onnxruntime session alone: the difference is our runtime's overhead."""
    if subject.path.suffix != ".onnx":
        raise EngineError("--baseline session needs an ONNX engine first; a plan has no session")
    session = open_session(subject.path)
    yield Candidate(f"session of {subject.path.name}", subject.engine.spec.precision,
                    session_infer(session))


def openvino_forms(subject: Subject) -> Iterator[Candidate]:
    """Yield OpenVINO with the FP32 graph, and with the Q/DQ graph of the same ranges."""
    openvino = import_package("openvino")
    core = openvino.Core()
    # On CPUs with bfloat16 OpenVINO computes in bfloat16 by default.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": cores(),
                "INFERENCE_PRECISION_HINT": "f32"}
    for precision, suffix in (("fp32", ".onnx"), ("int8", ".int8.qdq.onnx")):
        path = sibling_path(subject.path, suffix, "--baseline openvino")
        model = core.compile_model(str(path), "CPU", settings)
        yield Candidate(f"openvino-{precision}", precision, openvino_infer(model))


def openvino_infer(model: Any) -> Callable[[Array], Array]:
    """Return a compiled model as a function; OpenVINO recommends one request for all calls."""
    request = model.create_infer_request()
    return lambda crops: np.array(request.infer({INPUT_NAME: crops})[OUTPUT_NAME])


def import_package(package: str) -> ModuleType:
    """Import a package that is in none of our extras.

    Raises:
        PackageError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise PackageError(f"--baseline {package}: {error}; install it with: pip install "
                           f"{package}") from error


BASELINES: dict[str, Callable[[Subject], Iterator[Candidate]]] = {
    "torch": torch_eager,
    "torch-compile": torch_compile,
    "onnxruntime-fp32": bare_fp32,
    "openvino": openvino_forms,
    "session": own_session,
}
