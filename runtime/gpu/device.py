"""The GPU: its context, one stream and the kernels loaded into it.

Every use is inside `activate()`, which makes the context current in the calling thread and admits
one thread at a time: an engine may be used from any thread, and nothing stays on the context stack
when the process ends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feredge.runtime.errors import EngineError, PackageError, require
from feredge.runtime.gpu.graphs import call
from feredge.runtime.gpu.kernel_cache import kernel_cubin

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: a capture leaves the legacy default stream usable


class Gpu:
    """The first GPU: primary context, one non-blocking stream, loaded kernels.

    Args:
        cuda_graphs: whether launches that come again are replayed as graphs.
    """

    def __init__(self, cuda_graphs: bool = True) -> None:
        self.driver, self.cuda_graphs = cuda_driver(), cuda_graphs
        device = self.driver.Device(0)
        self.compute_capability: tuple[int, int] = device.compute_capability()
        self.name: str = device.name()
        self.integrated = bool(device.get_attribute(self.driver.device_attribute.INTEGRATED))
        self.lock = threading.RLock()
        self.modules: dict[Path, Any] = {}
        self.context = device.retain_primary_context()
        with self.activate():
            self.stream = self.driver.Stream(NON_BLOCKING)

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Make the context current for this thread, alone."""
        with self.lock:
            self.context.push()
            try:
                yield
            finally:
                self.context.pop()

    def module(self, source: Path) -> Any:
        """Return the kernels of a .cu file, compiled for this GPU and loaded at first use.

        Raises:
            KernelError: they cannot be compiled here.
        """
        if source not in self.modules:
            cubin = kernel_cubin(source, self.compute_capability, self.driver.get_driver_version())
            self.modules[source] = self.driver.module_from_buffer(cubin)
        return self.modules[source]

    def close(self) -> None:
        """Free stream, kernels and context; whatever else lies on the GPU must be freed before."""
        with self.activate():
            self.stream.synchronize()
            self.modules.clear()
            del self.stream
        self.context.detach()
        # PyCUDA pushes a context that is not current before it releases it, and leaves it there.
        call("cuCtxPopCurrent_v2", None)


def cuda_driver() -> Any:
    """Import and start PyCUDA's driver interface.

    Raises:
        PackageError: PyCUDA is not installed.
        EngineError: there is no NVIDIA driver, or no GPU.
    """
    try:
        driver = require("pycuda.driver", "tensorrt")
    except PackageError as error:
        if "libcuda" in str(error):
            raise EngineError("a plan needs NVIDIA's driver, and libcuda.so.1 is not here; use the "
                              "ONNX file of the same export") from error
        raise
    try:
        driver.init()
        count = driver.Device.count()
    except driver.Error as error:
        raise EngineError(f"NVIDIA's driver does not start: {error}; see nvidia-smi, or use the "
                          "ONNX file of the same export") from error
    if not count:
        raise EngineError("a plan needs a GPU, and there is none here; use the ONNX file of the "
                          "same export")
    return driver
