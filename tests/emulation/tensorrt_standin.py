"""A stand-in for TensorRT 10 at run time: its API, with onnxruntime enqueued on the stream.

A plan of its is a line of JSON and the ONNX file behind it. It refuses what TensorRT refuses: plans
of another version, shapes outside the profile, addresses that were not set, contexts without
memory, stream 0. It shows that engines are used as they must be, never how fast they are.
"""

from __future__ import annotations

import ctypes
import json
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

__version__ = "10.3.0"
SCRATCH_BYTES = 4096
HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class DataType(Enum):
    FLOAT = 0
    HALF = 1


class ExecutionContextAllocationStrategy(Enum):
    STATIC = 0
    USER_MANAGED = 2


class CudaGraphStrategy(Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class Logger:
    ERROR = 1

    def __init__(self, level: int) -> None:
        self.level = level


def write_plan(
    path: Path, onnx: Path, profile: list[tuple[int, ...]], rtx: bool = False
) -> bytes:
    """Write a plan of the stand-in's: smallest, usual and largest shape of the input."""
    header = json.dumps({"version": __version__, "profile": profile, "rtx": rtx})
    content = header.encode() + b"\n" + onnx.read_bytes()
    path.write_bytes(content)
    return content


class Runtime:
    def __init__(self, logger: Logger) -> None:
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        header, _, onnx = content.partition(b"\n")
        try:
            document = json.loads(header)
        except ValueError:
            return None
        if document["version"] != __version__:
            return None
        kind = RtxEngine if document["rtx"] else Engine
        return kind(onnx, [tuple(shape) for shape in document["profile"]])


class Engine:
    device_memory_size = SCRATCH_BYTES
    device_memory_size_v2 = SCRATCH_BYTES

    def __init__(self, onnx: bytes, profile: list[tuple[int, ...]]) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self.session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.profile = profile
        self.inputs = {value.name: value for value in self.session.get_inputs()}
        self.outputs = {value.name: value for value in self.session.get_outputs()}
        self.names = [*self.inputs, *self.outputs]

    @property
    def num_io_tensors(self) -> int:
        return len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        kind = {**self.inputs, **self.outputs}[name].type
        return DataType.HALF if kind == "tensor(float16)" else DataType.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = {**self.inputs, **self.outputs}[name].shape
        return tuple(side if isinstance(side, int) else -1 for side in shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert name in self.inputs and profile == 0
        return self.profile

    def create_execution_context(
        self, strategy: Any = ExecutionContextAllocationStrategy.STATIC
    ) -> Context:
        return Context(self, strategy is ExecutionContextAllocationStrategy.STATIC)


class RtxEngine(Engine):
    """An engine as TensorRT-RTX has it: contexts are made with a configuration."""

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: Any = None) -> Context:
        assert config.cuda_graph_strategy is CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        config.cache.content += b"kernel "
        return Context(self, has_memory=True)


class RuntimeConfig:
    cuda_graph_strategy = CudaGraphStrategy.DISABLED

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> None:
        self.cache = cache


class RuntimeCache:
    content = b""

    def serialize(self) -> bytearray:
        return bytearray(self.content)

    def deserialize(self, blob: bytes) -> bool:
        self.content = blob
        return True


class Context:
    def __init__(self, engine: Engine, has_memory: bool) -> None:
        self.engine, self.has_memory = engine, has_memory
        self.shape: tuple[int, ...] | None = None
        self.addresses: dict[str, int] = {}
        self.enqueued = HostFunction(self.run)  # the driver calls it: it must live as long as this

    def set_device_memory(self, address: int, size: int) -> None:
        assert address and size >= SCRATCH_BYTES
        self.has_memory = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.profile
        inside = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if name in self.engine.inputs and inside:
            self.shape = tuple(shape)
            return True
        return False

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self.engine.names or not address or address % 256:
            return False
        self.addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self.shape else list(self.engine.inputs)

    def execute_async_v3(self, stream: int) -> bool:
        ready = self.shape and set(self.addresses) == set(self.engine.names)
        if not ready or not self.has_memory or not stream:
            return False
        driver = ctypes.CDLL("libcuda.so.1")
        return not driver.cuLaunchHostFunc(ctypes.c_void_p(stream), self.enqueued, None)

    def run(self, _: Any) -> None:
        """Read the input where it lies, infer, write the outputs where they belong."""
        assert self.shape is not None
        (name, value), = self.engine.inputs.items()
        kind = np.float16 if value.type == "tensor(float16)" else np.float32
        size = int(np.prod(self.shape)) * np.dtype(kind).itemsize
        content = ctypes.string_at(self.addresses[name], size)
        feed = np.frombuffer(content, kind).reshape(self.shape)
        for output, array in zip(self.engine.outputs, self.engine.session.run(None, {name: feed})):
            array = np.ascontiguousarray(array)
            ctypes.memmove(self.addresses[output], array.ctypes.data, array.nbytes)
