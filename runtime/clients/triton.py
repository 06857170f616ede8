"""A network on a server that speaks KServe v2 over gRPC: Triton, MLServer and others.

Crops are cut and normalized here; one request carries a batch of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from feredge.runtime.engines.base import Engine
from feredge.runtime.errors import EngineError, SpecError, UsageError, require
from feredge.runtime.gpu.frame_layout import bgr_of
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, ModelSpec

DEFAULT_PORT = 8001
DEFAULT_MAX_BATCH = 16
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ServerAddress:
    """Server, model and, for servers without Triton's model configuration, the ModelSpec's file."""

    server: str
    model: str
    spec: Path | None

    @staticmethod
    def parse(text: str) -> ServerAddress:
        """Read `triton://host[:port]/model[?spec=FILE]`.

        Raises:
            UsageError: another form.
        """
        try:
            parts = urlsplit(text)
            port = parts.port or DEFAULT_PORT
        except ValueError as error:
            raise UsageError(f"engine {text}: {error}") from error
        model = parts.path.strip("/")
        if not parts.hostname or not model or "/" in model:
            raise UsageError(f"engine {text}: expected triton://host:8001/model")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        spec = parse_qs(parts.query).get("spec")
        return ServerAddress(f"{host}:{port}", model, Path(spec[0]) if spec else None)


class TritonEngine(Engine):
    """A network on a server.

    Args:
        address: see `ServerAddress.parse`.

    Raises:
        UsageError: the address is malformed.
        PackageError: tritonclient is not installed.
        EngineError: the server does not answer, or its model is another one.
        SpecError: the ModelSpec is missing or broken.
    """

    device = "server"

    def __init__(self, address: str) -> None:
        self._address = ServerAddress.parse(address)
        self._grpc = require("tritonclient.grpc", "triton")
        self._client: Any = self._grpc.InferenceServerClient(self._address.server)
        try:
            metadata = self._call("get_model_metadata", self._address.model)
            self.spec, self.max_batch = self._read_spec()
            check_signature(metadata, self.spec, address)
        except BaseException:
            self.close()
            raise

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call the server.

        Raises:
            EngineError: it does not answer, or refuses.
        """
        if self._client is None:
            raise EngineError("this engine was closed")
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, name)(*arguments, client_timeout=TIMEOUT_S, **options)
        except InferenceServerException as error:
            reason = str(error.message()).splitlines()[0]
            raise EngineError(f"{self._address.model} at {self._address.server}: {reason}; is the "
                              "server running, with the model loaded?") from error

    def _read_spec(self) -> tuple[ModelSpec, int]:
        """Return the ModelSpec and the largest batch, from the file or the server's configuration.

        Raises:
            SpecError: neither has a ModelSpec.
        """
        if self._address.spec is not None:
            return read_spec(self._address.spec), DEFAULT_MAX_BATCH
        try:
            config = self._call("get_model_config", self._address.model).config
        except EngineError as error:
            raise SpecError(f"{self._address.model}: the server gives no model configuration, so "
                            "labels and crop are unknown; add ?spec=FILE with the feredge.json "
                            f"that fer-export --serving triton wrote ({error})") from error
        text = config.parameters[METADATA_KEY].string_value
        if not text:
            raise SpecError(f"{self._address.model}: its configuration holds no ModelSpec; write "
                            "it with fer-export --serving triton, or add ?spec=FILE")
        return ModelSpec.from_json(text), config.max_batch_size or DEFAULT_MAX_BATCH

    def _classify(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        from feredge.runtime.preprocess.opencv import crop_faces

        return self._infer(np.concatenate(
            [crop_faces(bgr_of(frame), boxes_xyxy, self.spec.input, self.spec.crop)
             for frame, boxes_xyxy in parts]))

    def _infer(self, crops: Array) -> Array:
        faces = self._grpc.InferInput(INPUT_NAME, list(crops.shape), "FP32")
        faces.set_data_from_numpy(np.ascontiguousarray(crops))
        wanted = [self._grpc.InferRequestedOutput(OUTPUT_NAME)]
        answer = self._call("infer", self._address.model, [faces], outputs=wanted)
        probabilities = answer.as_numpy(OUTPUT_NAME)
        if probabilities is None:
            raise EngineError(f"{self._address.model}: the server returned no {OUTPUT_NAME}")
        return np.asarray(probabilities, np.float32)

    def close(self) -> None:
        """Close the connection; closing twice is allowed."""
        if self._client is not None:
            self._client.close()
            self._client = None


def read_spec(path: Path) -> ModelSpec:
    """Read a ModelSpec from a JSON file.

    Raises:
        SpecError: the file is missing or broken.
    """
    try:
        return ModelSpec.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}") from error


def check_signature(metadata: Any, spec: ModelSpec, address: str) -> None:
    """Compare the server's inputs and outputs with the ModelSpec.

    Raises:
        EngineError: they differ.
    """
    side = spec.input.side
    expected = {INPUT_NAME: [3, side, side], OUTPUT_NAME: [len(spec.labels)]}
    values = [*metadata.inputs, *metadata.outputs]
    found = {value.name: list(value.shape)[1:] for value in values}
    if found != expected:
        raise EngineError(f"{address} has inputs and outputs {found} (without the batch), its "
                          f"ModelSpec says {expected}; serve what fer-export --serving wrote")
