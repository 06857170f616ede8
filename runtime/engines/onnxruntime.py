"""The onnxruntime backend: ONNX graphs on the CPU or another provider, crops by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime import machine
from feredge.runtime.engines.base import Engine
from feredge.runtime.engines.onnx_check import read_onnx
from feredge.runtime.engines.providers import CPU, PROVIDERS, ParityCheck, find_provider
from feredge.runtime.environment import load_onnxruntime
from feredge.runtime.errors import EngineError, SpecError
from feredge.runtime.gpu.frame_layout import bgr_of
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, ModelSpec

MAX_BATCH = 32  # more faces at once cost memory and no longer gain speed on a CPU
FULL_BATCH_PX = 224  # side up to which so many faces go into one batch
MAX_MEMORY_BYTES = 3 << 29  # 1.5 GiB for the tensors of all sessions: a damaged file asks for more


def open_session(path: Path, threads: int | None = None, provider: str = CPU) -> Any:
    """Open an ONNX file, once its content has been checked.

    Args:
        path: the file.
        threads: how many one run may use on the CPU; None: one a core.
        provider: see `PROVIDERS`; the CPU runs the operators that it does not have.

    Raises:
        EngineError: the file is refused, or onnxruntime cannot read it, with its reason; or the
            provider does not start.
        UsageError: the provider is unknown or not available.
    """
    content, ort = read_onnx(path), load_onnxruntime()
    wanted = find_provider(provider).name
    limit_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # its errors become ours, its warnings are not for the user
    # Threads that spin after a run take the cores from the next step, the other network above all:
    # without this two cores need a quarter longer for a clip.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        session = ort.InferenceSession(
            content, options, providers=list(dict.fromkeys([wanted, PROVIDERS[CPU].name])))
        # Read once here: text that is not UTF-8 fails only when it is read.
        for value in (*session.get_inputs(), *session.get_outputs()):
            _ = value.name, value.shape, value.type
        _ = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime's exceptions share no base but this one
        raise EngineError(f"{path} is no ONNX file that onnxruntime can run: {reason_of(error)}"
                          ) from error
    if wanted not in session.get_providers():  # onnxruntime falls back to the CPU by itself
        raise EngineError(f"provider {provider} does not start here: its libraries or its device "
                          "are missing; leave out `provider` to use the CPU")
    return session


@cache
def limit_memory() -> None:
    """Limit the memory for tensors of all sessions of this process, once."""
    ort = load_onnxruntime()
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
                             ort.OrtMemType.DEFAULT)
    with suppress(Exception):  # an allocator that the host program registered stays
        ort.create_and_register_allocator(info, ort.OrtArenaCfg({"max_mem": MAX_MEMORY_BYTES}))


def run_session(session: Any, outputs: Sequence[str], feed: dict[str, Array], name: str) -> Any:
    """Run a session.

    Raises:
        EngineError: onnxruntime could not, with its reason; or the session was closed.
    """
    if session is None:
        raise EngineError(f"{name} was closed")
    try:
        return session.run(list(outputs), feed)
    except Exception as error:  # onnxruntime's exceptions share no base but this one
        raise EngineError(f"{name} cannot run: {reason_of(error)}; the file is damaged or not a "
                          "network for this: export it again") from error


def reason_of(error: Exception) -> str:
    """Return what an exception of onnxruntime says, in one line."""
    lines = str(error).split(" : ")[-1].splitlines() or [type(error).__name__]
    return lines[0][:200]


class OnnxEngine(Engine):
    """A network in onnxruntime, with the ModelSpec that its metadata holds."""

    def __init__(
        self, path: Path, threads: int | None = None, provider: str | None = None
    ) -> None:
        self.session = open_session(path, threads, provider or CPU)
        self.spec = embedded_spec(self.session, path)
        side = self.spec.input.side
        self.max_batch = max(min(MAX_BATCH, MAX_BATCH * FULL_BATCH_PX**2 // side**2), 1)
        self.name = str(path)
        check_signature(self.session, self.spec, path)
        self.parity: ParityCheck | None = None
        if provider in (None, CPU):
            machine.warn_if_unfit(self.spec, path)
        else:
            reference = open_session(path, threads)
            self.parity = ParityCheck(provider, lambda crops: self._run(reference, crops))

    def _classify(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        from feredge.runtime.preprocess.opencv import crop_faces

        crops = [crop_faces(bgr_of(frame), boxes_xyxy, self.spec.input, self.spec.crop)
                 for frame, boxes_xyxy in parts]
        return self._infer(np.concatenate(crops) if len(crops) > 1 else crops[0])

    def _infer(self, crops: Array) -> Array:
        probabilities = self._run(self.session, crops)
        if self.parity is not None:
            self.parity.add(crops, probabilities)
        return probabilities

    def _run(self, session: Any, crops: Array) -> Array:
        (probabilities,) = run_session(session, [OUTPUT_NAME], {INPUT_NAME: crops}, self.name)
        return np.asarray(probabilities, np.float32)

    def close(self) -> None:
        """Free the session, and report what was compared with the CPU."""
        self.session = None
        if self.parity is not None:
            self.parity.close()


def embedded_spec(session: Any, path: Path) -> ModelSpec:
    """Read the ModelSpec out of an ONNX file's metadata.

    Raises:
        SpecError: there is none, or it is broken.
    """
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise SpecError(f"{path} carries no ModelSpec, so its labels, crop and normalization are "
                        "unknown; export it with fer-export")
    try:
        return ModelSpec.from_json(text)
    except SpecError as error:
        raise SpecError(f"{path}: its ModelSpec is broken: {error}; export it again") from error


def check_signature(session: Any, spec: ModelSpec, path: Path) -> None:
    """Compare a graph's input and output with its ModelSpec.

    Raises:
        EngineError: they differ.
    """
    side = spec.input.side
    expected = {INPUT_NAME: [3, side, side], OUTPUT_NAME: [len(spec.labels)]}
    values = [*session.get_inputs(), *session.get_outputs()]
    found = {value.name: list(value.shape[1:]) for value in values}
    if found != expected:
        raise EngineError(f"{path} has inputs and outputs {found} (without the batch), its "
                          f"ModelSpec says {expected}; export it again")
    types = {value.name: value.type for value in values}
    if set(types.values()) != {"tensor(float)"}:
        raise EngineError(f"{path} has inputs and outputs of the types {types}, expected "
                          "tensor(float); export it again")
    fixed = {value.name: value.shape[0] for value in values if isinstance(value.shape[0], int)}
    if fixed:
        raise EngineError(f"{path} has a fixed batch: {fixed}, expected a dynamic one; export it "
                          "again")
