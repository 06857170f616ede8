"""The CPU backend: ONNX graphs in onnxruntime, crops by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime import machine
from feredge.runtime.engines.base import Engine
from feredge.runtime.environment import load_onnxruntime
from feredge.runtime.errors import EngineError, SpecError
from feredge.runtime.placeholder import file_placeholder_hint
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, ModelSpec

MAX_BATCH = 32  # more faces at once cost memory and no longer gain speed on a CPU


def open_session(path: Path, threads: int | None = None) -> Any:
    """Open an ONNX file on the CPU.

    Args:
        path: the file.
        threads: how many one run may use; None: one a core.

    Raises:
        EngineError: onnxruntime cannot read it, with its reason.
    """
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors only: its warnings are not for the user of a camera
    # Threads that go on spinning after a run take the cores from what comes next, the other network
    # above all: without this two cores work off a clip a quarter slower.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base but this one
        if (hint := file_placeholder_hint(path)) is not None:
            raise EngineError(f"{path} {hint}") from error
        reason = str(error).split(" : ")[-1].splitlines()[0]
        raise EngineError(f"{path} is no ONNX file that onnxruntime can run: {reason}") from error


class OnnxEngine(Engine):
    """A network in onnxruntime, with the ModelSpec that its metadata holds."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.session = open_session(path, threads)
        self.spec = embedded_spec(self.session, path)
        self.max_batch = MAX_BATCH
        check_signature(self.session, self.spec, path)
        machine.warn_if_unfit(self.spec, path)

    def _classify(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        from feredge.runtime.preprocess.opencv import bgr_of, crop_faces

        crops = [crop_faces(bgr_of(frame), boxes_xyxy, self.spec.input, self.spec.crop)
                 for frame, boxes_xyxy in parts]
        return self._infer(np.concatenate(crops) if len(crops) > 1 else crops[0])

    def _infer(self, crops: Array) -> Array:
        probabilities: Array = self.session.run([OUTPUT_NAME], {INPUT_NAME: crops})[0]
        return probabilities

    def close(self) -> None:
        """Free the session."""
        self.session = None


def embedded_spec(session: Any, path: Path) -> ModelSpec:
    """Read the ModelSpec out of an ONNX file's metadata.

    Raises:
        SpecError: there is none, or it is broken.
    """
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise SpecError(f"{path} carries no ModelSpec, so its labels, crop and normalisation are "
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
