"""A plan in TensorRT: execution contexts whose shapes and addresses never change.

The sidecar's target decides between TensorRT and TensorRT-RTX, never an attribute of the engine:
TensorRT has runtime configurations from 10.11 on, as RTX has. What differs:

| what                   | TensorRT 10.3 to 11                | TensorRT-RTX                   |
| ---------------------- | ---------------------------------- | ------------------------------ |
| a context is made with | USER_MANAGED, and shared memory    | a runtime configuration        |
| CUDA graphs            | captured by `Replay`               | RTX's own strategy             |
| compiled kernels       | in the plan                        | compiled on load, `RtxCache`   |

All other names are the same in both, which tests check against the binding wheels of 10.3, 10.13,
10.16 and 11.4 and against the installed TensorRT-RTX.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feredge.runtime.errors import EngineError
from feredge.runtime.gpu.device import Gpu
from feredge.runtime.plans.files import check_gpu, rebuild, tensorrt_for
from feredge.runtime.plans.rtx_cache import RtxCache
from feredge.runtime.spec import TargetSpec

Shape = tuple[int, ...]


class PlanSession:
    """A deserialized plan; its contexts share one block of memory, since they run one by one."""

    def __init__(self, gpu: Gpu, path: Path, content: bytes, target: TargetSpec) -> None:
        self.gpu, self.trt = gpu, tensorrt_for(path, target)
        check_gpu(path, target, gpu.compute_capability, gpu.name)
        self.logger = self.trt.Logger(self.trt.Logger.ERROR)
        self.runtime = self.trt.Runtime(self.logger)
        if target.dla_core is not None:
            self.runtime.DLA_core = target.dla_core
        self.engine = self.runtime.deserialize_cuda_engine(content)
        if self.engine is None:
            raise EngineError(f"TensorRT refuses {path} (it logged the reason above); build it "
                              f"again: {rebuild(path, target)}")
        names = [self.engine.get_tensor_name(k) for k in range(self.engine.num_io_tensors)]
        is_input = {name: self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT
                    for name in names}
        self.inputs = [name for name in names if is_input[name]]
        self.outputs = [name for name in names if not is_input[name]]
        self.contexts: dict[Shape, Any] = {}
        self.shared_memory: Any = None
        self.rtx_cache = RtxCache(target, gpu) if target.kind == "tensorrt-rtx" else None

    @property
    def can_capture(self) -> bool:
        """Return whether its work is captured here; TensorRT-RTX captures graphs itself."""
        return self.rtx_cache is None

    def profile(self) -> tuple[Shape, Shape, Shape]:
        """Return the smallest, usual and largest shape of the one input."""
        low, usual, high = self.engine.get_tensor_profile_shape(self.inputs[0], 0)
        return tuple(low), tuple(usual), tuple(high)

    def is_fp16(self, name: str) -> bool:
        """Return whether a tensor is FP16."""
        return bool(self.engine.get_tensor_dtype(name) == self.trt.DataType.HALF)

    def context(self, shape: Shape, addresses: dict[str, int]) -> Any:
        """Return the context for one shape of the input, created at first use.

        Args:
            shape: of the input, inside the profile.
            addresses: of every tensor, in device memory; the same at every call.

        Raises:
            EngineError: TensorRT refuses the shape or an address.
        """
        if shape in self.contexts:
            return self.contexts[shape]
        context = self.new_context()
        accepted = context.set_input_shape(self.inputs[0], shape)
        for name, address in addresses.items():
            accepted = context.set_tensor_address(name, address) and accepted
        if not accepted or context.infer_shapes():
            raise EngineError(f"TensorRT refuses input {shape}; the plan takes {self.profile()}")
        self.contexts[shape] = context
        return context

    def new_context(self) -> Any:
        """Return an execution context; TensorRT's contexts share one block of device memory."""
        if self.rtx_cache is not None:
            return self.engine.create_execution_context(
                self.rtx_cache.config(self.engine, self.trt))
        size = int(self.engine.device_memory_size_v2)
        if self.shared_memory is None and size:
            self.shared_memory = self.gpu.driver.mem_alloc(size)
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.engine.create_execution_context(strategy)
        if size:
            context.set_device_memory(int(self.shared_memory), size)
        return context

    def execute(self, context: Any) -> None:
        """Enqueue one inference on the stream.

        Raises:
            EngineError: TensorRT refuses it.
        """
        if not context.execute_async_v3(self.gpu.stream.handle):
            raise EngineError("TensorRT could not enqueue the inference; it logged the reason "
                              "above")

    def close(self) -> None:
        """Free contexts before their engine, that before the runtime, and their memory last."""
        if self.rtx_cache is not None:
            self.rtx_cache.save()
        self.contexts.clear()
        self.rtx_cache = self.engine = self.runtime = self.logger = None
        if self.shared_memory is not None:
            self.shared_memory.free()
            self.shared_memory = None
