"""What our engines are held against: the same weights in other runtimes.

Each runs as its makers say it should for the latency of one caller; none is tuned further.
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
from feredge.runtime.engines.base import Engine
from feredge.runtime.errors import CheckpointError, EngineError, PackageError, require
from feredge.runtime.machine import cores
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME

FORMS = (".int8.onnx", ".int8.qdq.onnx", ".fp16.onnx", ".int8.fp16.onnx", ".onnx", ".plan")


@dataclass(frozen=True)
class Subject:
    """The first engine: what every baseline must be a form of."""

    path: Path
    engine: Engine
    checkpoint: Path | None = None


def form_of(path: Path, suffix: str, what: str) -> Path:
    """Return another file of the export that an engine came from.

    Args:
        path: the engine.
        suffix: of the other file, as `.int8.qdq.onnx`.
        what: needs it, for the error.

    Raises:
        EngineError: it does not lie beside the engine.
    """
    own = max((form for form in FORMS if path.name.endswith(form)), key=len)
    other = path.with_name(path.name.removesuffix(own) + suffix)
    if not other.is_file():
        raise EngineError(f"{what} needs {other}, which is not there; export once more, with "
                          "--int8, or copy it beside the engine")
    return other


def torch_module(subject: Subject) -> Any:
    """Return the network in torch, with the weights that the engine was exported from.

    Raises:
        CheckpointError: the checkpoint is another one, or none is bundled.
    """
    require("torch", "export")
    from feredge.export.job import ExportOptions
    from feredge.export.models.registry import network_named
    from feredge.export.network.build import built, checkpoint_of

    spec = subject.engine.spec
    network = network_named(spec.model)
    named = None if subject.checkpoint is None else str(subject.checkpoint)
    checkpoint = checkpoint_of(network, ExportOptions(spec.model, named))
    if checkpoint.sha256 != spec.source.checkpoint_sha256:
        raise CheckpointError(f"{subject.path} was not exported from {named or 'what is bundled'}; "
                              "name the checkpoint that it was exported from with --checkpoint")
    return built(network, checkpoint, len(spec.labels), spec.input.side)


def torch_infer(module: Any) -> Callable[[Array], Array]:
    """Return a torch module as a function of arrays, without what training needs."""
    import torch

    def infer(crops: Array) -> Array:
        with torch.inference_mode():
            answers: Array = module(torch.from_numpy(crops)).numpy()
        return answers

    return infer


def torch_eager(subject: Subject) -> Iterator[Candidate]:
    """The network in torch as it stands."""
    yield Candidate("torch", "fp32", torch_infer(torch_module(subject)))


def torch_compile(subject: Subject) -> Iterator[Candidate]:
    """The network compiled by torch, anew for every batch."""
    module = torch_module(subject)
    if shutil.which("g++") is None:
        raise PackageError("g++ is not installed, and torch.compile needs it; install it, or leave "
                           "out --baseline torch-compile")
    import torch

    yield Candidate("torch-compile", "fp32", torch_infer(torch.compile(module, dynamic=False)))


def bare_fp32(subject: Subject) -> Iterator[Candidate]:
    """The FP32 graph in onnxruntime with its own settings."""
    ort = require("onnxruntime")
    path = form_of(subject.path, ".onnx", "--baseline onnxruntime-fp32")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    yield Candidate("onnxruntime-fp32", "fp32", session_infer(session))


def session_infer(session: Any) -> Callable[[Array], Array]:
    """Return a session's own run."""
    return lambda crops: session.run([OUTPUT_NAME], {INPUT_NAME: crops})[0]


def own_session(subject: Subject) -> Iterator[Candidate]:
    """The engine's own onnxruntime session without our runtime around it: what that costs."""
    session = getattr(subject.engine, "session", None)
    if subject.path.suffix != ".onnx":
        raise EngineError("--baseline session needs an ONNX engine first; a plan has no session")
    yield Candidate(f"session of {subject.path.name}", subject.engine.spec.precision,
                    session_infer(session))


def openvino_forms(subject: Subject) -> Iterator[Candidate]:
    """OpenVINO with the FP32 graph, and with the Q/DQ graph of the same ranges."""
    openvino = installed("openvino")
    core = openvino.Core()
    # On CPUs that have bfloat16 OpenVINO computes in it unless it is told otherwise.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": cores(),
                "INFERENCE_PRECISION_HINT": "f32"}
    for precision, suffix in (("fp32", ".onnx"), ("int8", ".int8.qdq.onnx")):
        path = form_of(subject.path, suffix, "--baseline openvino")
        model = core.compile_model(str(path), "CPU", settings)
        yield Candidate(f"openvino-{precision}", precision, openvino_infer(model))


def openvino_infer(model: Any) -> Callable[[Array], Array]:
    """Return a compiled model as a function; its request is made once, as OpenVINO advises."""
    request = model.create_infer_request()
    return lambda crops: np.array(request.infer({INPUT_NAME: crops})[OUTPUT_NAME])


def installed(package: str) -> ModuleType:
    """Import a package that no extra of ours brings.

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
