"""Stand-ins for TensorRT at run time, one per version: its API, with onnxruntime on the stream.

Each version shows the names that its bindings have (tensorrt_api.json, read from the real ones) and
hides all others. A plan of the stand-in is a line of JSON and the ONNX file behind it. It refuses
what TensorRT refuses: plans of another version, shapes outside the profile, addresses that were not
set, contexts without memory, stream 0, a context's first inference inside a capture. It shows that
engines are used correctly, never how fast they are.
"""

from __future__ import annotations

import ctypes
import json
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort

API: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parent / "tensorrt_api.json").read_text())
OLDEST, RTX = next(iter(API)), next(version for version in API if version.startswith("rtx-"))
SCRATCH_BYTES = 4096
HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def number(version: str) -> str:
    """Return what `__version__` says."""
    return version.removeprefix("rtx-")


def write_plan(
    path: Path, onnx: Path, profile: list[tuple[int, ...]], version: str = OLDEST
) -> bytes:
    """Write a plan of a version: smallest, usual and largest shape of the input."""
    header = json.dumps({"version": version, "profile": profile})
    content = header.encode() + b"\n" + onnx.read_bytes()
    path.write_bytes(content)
    return content


@cache
def standin(version: str) -> ModuleType:
    """Return the `tensorrt` or `tensorrt_rtx` of a version."""
    module = ModuleType("tensorrt_rtx" if version.startswith("rtx-") else "tensorrt")
    module.__version__ = number(version)
    for name, members in API[version].items():
        if name in IMPLEMENTED:
            values: dict[str, Any] = {"_api": frozenset(members), "_version": version}
            kind: Any = type(name, (IMPLEMENTED[name],), values)
            for severity in ("ERROR",) if name == "Logger" else ():
                setattr(kind, severity, severity)
        else:
            kind = Enum(name, [member for member in members if member.isupper()])
        setattr(module, name, kind)
    return module


class Versioned:
    """Shows the names that its version has, and its own private ones."""

    _api: frozenset[str]
    _version: str

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in type(self)._api:
            raise AttributeError(f"{type(self).__name__} of {type(self)._version} has no {name}")
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in type(self)._api:
            raise AttributeError(f"{type(self).__name__} of {type(self)._version} has no {name}")
        object.__setattr__(self, name, value)

    @property
    def _trt(self) -> ModuleType:
        return standin(self._version)


class Logger(Versioned):
    def __init__(self, level: Any) -> None:
        assert level == "ERROR"


class Runtime(Versioned):
    DLA_core = -1

    def __init__(self, logger: Logger) -> None:
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        header, _, onnx = content.partition(b"\n")
        try:
            document = json.loads(header)
        except ValueError:
            return None
        if document["version"] != self._version:
            return None
        return self._trt.ICudaEngine(onnx, [tuple(shape) for shape in document["profile"]])


class Engine(Versioned):
    device_memory_size = device_memory_size_v2 = SCRATCH_BYTES

    def __init__(self, onnx: bytes, profile: list[tuple[int, ...]]) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._profile = profile
        self._inputs = {value.name: value for value in self._session.get_inputs()}
        self._outputs = {value.name: value for value in self._session.get_outputs()}
        self._names = [*self._inputs, *self._outputs]

    @property
    def num_io_tensors(self) -> int:
        return len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self._trt.TensorIOMode["INPUT" if name in self._inputs else "OUTPUT"]

    def get_tensor_dtype(self, name: str) -> Any:
        kind = {**self._inputs, **self._outputs}[name].type
        return self._trt.DataType["HALF" if kind == "tensor(float16)" else "FLOAT"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = {**self._inputs, **self._outputs}[name].shape
        return tuple(side if isinstance(side, int) else -1 for side in shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert name in self._inputs and profile == 0
        return self._profile

    def create_runtime_config(self) -> RuntimeConfig:
        return self._trt.IRuntimeConfig()

    def create_execution_context(self, made_with: Any) -> Context:
        """Take a strategy, as TensorRT does, or a configuration, as RTX does."""
        if isinstance(made_with, RuntimeConfig):
            if hasattr(made_with, "cuda_graph_strategy"):
                assert made_with.cuda_graph_strategy is (
                    self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE)
                made_with._cache._content += b"kernel "
            return self._trt.IExecutionContext(self, True)
        strategies = self._trt.ExecutionContextAllocationStrategy
        return self._trt.IExecutionContext(self, made_with is strategies.STATIC)


class RuntimeConfig(Versioned):
    cuda_graph_strategy: Any = None

    def create_runtime_cache(self) -> RuntimeCache:
        return self._trt.IRuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> None:
        self._cache = cache


class RuntimeCache(Versioned):
    _content = b""

    def serialize(self) -> bytearray:
        return bytearray(self._content)

    def deserialize(self, blob: bytes) -> bool:
        self._content = blob
        return True


class Context(Versioned):
    def __init__(self, engine: Engine, has_memory: bool) -> None:
        self._engine, self._has_memory, self._has_run = engine, has_memory, False
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._enqueued = HostFunction(self._run)  # the driver calls it: it must live as long

    def set_device_memory(self, address: int, size: int) -> None:
        assert address and size >= SCRATCH_BYTES
        self._has_memory = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine._profile
        inside = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if name in self._engine._inputs and inside:
            self._shape = tuple(shape)
            return True
        return False

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self._engine._names or not address or address % 256:
            return False
        self._addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self._shape else list(self._engine._inputs)

    def execute_async_v3(self, stream: int) -> bool:
        ready = self._shape and set(self._addresses) == set(self._engine._names)
        if not ready or not self._has_memory or not stream:
            return False
        driver = ctypes.CDLL("libcuda.so.1")
        capturing = ctypes.c_int()
        driver.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(capturing))
        if capturing.value and not self._has_run:
            return False  # it would allocate
        self._has_run = True
        return not driver.cuLaunchHostFunc(ctypes.c_void_p(stream), self._enqueued, None)

    def _run(self, _: Any) -> None:
        """Read the input where it lies, infer, write the outputs where they belong."""
        assert self._shape is not None
        (name, value), = self._engine._inputs.items()
        kind = np.float16 if value.type == "tensor(float16)" else np.float32
        size = int(np.prod(self._shape)) * np.dtype(kind).itemsize
        content = ctypes.string_at(self._addresses[name], size)
        feed = np.frombuffer(content, kind).reshape(self._shape)
        results = self._engine._session.run(None, {name: feed})
        for output, array in zip(self._engine._outputs, results):
            array = np.ascontiguousarray(array)
            ctypes.memmove(self._addresses[output], array.ctypes.data, array.nbytes)


IMPLEMENTED: dict[str, type[Versioned]] = {
    "Logger": Logger, "Runtime": Runtime, "ICudaEngine": Engine, "IRuntimeConfig": RuntimeConfig,
    "IRuntimeCache": RuntimeCache, "IExecutionContext": Context,
}
