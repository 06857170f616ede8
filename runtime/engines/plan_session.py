"""A plan in TensorRT: execution contexts whose shapes and addresses never change.

What differs between versions is found by what they have:

| what                   | 8.6                                | 10, 11, RTX                  |
| ---------------------- | ---------------------------------- | ---------------------------- |
| context without memory | `create_execution_context_without` | `create_execution_context(   |
|                        | `_device_memory`                   | USER_MANAGED)`               |
| its memory             | `device_memory = address`          | `set_device_memory` (10.1)   |
| how much it needs      | `device_memory_size`               | `device_memory_size_v2`      |
| CUDA graphs            | captured here                      | RTX: its own strategy        |
| compiled kernels       | in the plan                        | RTX: a runtime cache on disk |

RTX's rows are held to the installed package by a test; the others rest on NVIDIA's API reference.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from feredge.runtime.engines.plan_files import check_gpu, rebuild, tensorrt_for
from feredge.runtime.environment import cache_folder
from feredge.runtime.errors import EngineError, OutputError
from feredge.runtime.files import atomic_write
from feredge.runtime.gpu.device import Gpu
from feredge.runtime.spec import TargetSpec

Shape = tuple[int, ...]


class PlanSession:
    """A deserialised plan; contexts share one block of scratch memory, as they run one by one."""

    def __init__(self, gpu: Gpu, path: Path, content: bytes, target: TargetSpec) -> None:
        self.gpu, self.trt = gpu, tensorrt_for(path, target)
        check_gpu(path, target, gpu.compute_capability, gpu.name)
        self.logger = self.trt.Logger(self.trt.Logger.ERROR)
        self.runtime = self.trt.Runtime(self.logger)
        self.engine = self.runtime.deserialize_cuda_engine(content)
        if self.engine is None:
            raise EngineError(f"TensorRT refuses {path} (its reason stands above); build it again: "
                              f"{rebuild(path, target)}")
        names = [self.engine.get_tensor_name(k) for k in range(self.engine.num_io_tensors)]
        inward = self.trt.TensorIOMode.INPUT
        self.inputs = [name for name in names if self.engine.get_tensor_mode(name) == inward]
        self.outputs = [name for name in names if name not in self.inputs]
        self.contexts: dict[Shape, Any] = {}
        self.scratch: Any = None
        # RTX compiles kernels when it loads a plan, keeps them, and has CUDA graphs of its own.
        self.is_rtx = hasattr(self.engine, "create_runtime_config")
        self.kernels = KernelCache(self.engine, target) if self.is_rtx else None

    def profile(self) -> tuple[Shape, Shape, Shape]:
        """Return the smallest, usual and largest shape of the one input."""
        low, usual, high = self.engine.get_tensor_profile_shape(self.inputs[0], 0)
        return tuple(low), tuple(usual), tuple(high)

    def is_half(self, name: str) -> bool:
        """Tell whether a tensor is FP16."""
        return bool(self.engine.get_tensor_dtype(name) == self.trt.DataType.HALF)

    def context(self, shape: Shape, addresses: dict[str, int]) -> Any:
        """Return the context for one shape of the input, made at first use.

        Args:
            shape: of the input, inside the profile.
            addresses: of every tensor, in device memory; the same at every call.

        Raises:
            EngineError: TensorRT takes neither the shape nor an address.
        """
        if shape in self.contexts:
            return self.contexts[shape]
        context = self.new_context()
        good = context.set_input_shape(self.inputs[0], shape)
        for name, address in addresses.items():
            good = context.set_tensor_address(name, address) and good
        if not good or context.infer_shapes():
            raise EngineError(f"TensorRT refuses input {shape}; the plan takes {self.profile()}")
        self.contexts[shape] = context
        return context

    def new_context(self) -> Any:
        """Return an execution context in the shared scratch memory."""
        if self.kernels is not None:
            return self.engine.create_execution_context(self.kernels.config(self.trt))
        size = int(getattr(self.engine, "device_memory_size_v2", 0)
                   or self.engine.device_memory_size)
        if self.scratch is None and size:
            self.scratch = self.gpu.driver.mem_alloc(size)
        if hasattr(self.trt, "ExecutionContextAllocationStrategy"):
            strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self.engine.create_execution_context(strategy)
        else:
            context = self.engine.create_execution_context_without_device_memory()
        if size and hasattr(context, "set_device_memory"):
            context.set_device_memory(int(self.scratch), size)
        elif size:
            context.device_memory = int(self.scratch)
        return context

    def execute(self, context: Any) -> None:
        """Enqueue one inference on the stream.

        Raises:
            EngineError: TensorRT does not take it.
        """
        if not context.execute_async_v3(self.gpu.stream.handle):
            raise EngineError("TensorRT could not enqueue the inference; its reason stands above")

    def close(self) -> None:
        """Free contexts before their engine, that before the runtime, and the scratch last."""
        if self.kernels is not None:
            self.kernels.keep()
        self.contexts.clear()
        self.kernels = self.engine = self.runtime = self.logger = None
        if self.scratch is not None:
            self.scratch.free()
            self.scratch = None


class KernelCache:
    """TensorRT-RTX's compiled kernels, kept on disk from one run to the next."""

    def __init__(self, engine: Any, target: TargetSpec) -> None:
        self.engine = engine
        self.cache: Any = None
        name = f"{target.kind}-{target.version}-{(target.onnx_sha256 or 'unknown')[:16]}.cache"
        self.path = cache_folder() / "kernels" / name

    def config(self, trt: Any) -> Any:
        """Return what a context is made with: the kept kernels, and graphs of RTX's own."""
        config = self.engine.create_runtime_config()
        if self.cache is None:
            self.cache = config.create_runtime_cache()
            if self.path.is_file():
                self.cache.deserialize(self.path.read_bytes())
        config.set_runtime_cache(self.cache)
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return config

    def keep(self) -> None:
        """Write the kernels to disk; a folder that cannot be written is no reason to fail."""
        if self.cache is None:
            return
        with suppress(OSError, OutputError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as temporary:
                temporary.write_bytes(bytes(memoryview(self.cache.serialize())))
