"""The GPU: its context, one stream, buffers, and the frame that detector and network share.

Every use is inside `active()`, which makes the context current in the calling thread and lets one
thread in at a time: an engine may be used from any thread, and nothing stays on the context stack
when the process ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from feredge.runtime.errors import EngineError, PackageError, require
from feredge.runtime.gpu.graphs import CudaGraph, GraphError
from feredge.runtime.preprocess.cuda import FrameLayout, load_module
from feredge.runtime.results import Array

MOST_GRAPHS = 32  # a folder of pictures of all sizes must not fill the GPU with graphs


class Gpu:
    """The first GPU: primary context, a stream of its own, the crop kernel, the current frame."""

    def __init__(self) -> None:
        self.driver = cuda_driver()
        device = self.driver.Device(0)
        self.compute_capability = "{}.{}".format(*device.compute_capability())
        self.name: str = device.name()
        attribute = self.driver.device_attribute
        self.integrated = bool(device.get_attribute(attribute.INTEGRATED))
        self.lock = threading.RLock()
        self.users = 0
        self.context = device.retain_primary_context()
        with self.active():
            self.stream = self.driver.Stream()
            self.kernels = load_module()
        self.frame_buffer: Buffer | None = None
        self.uploaded: Array | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current for this thread, alone."""
        with self.lock:
            self.context.push()
            try:
                yield
            finally:
                self.context.pop()

    def upload(self, frame_bgr: Array) -> FrameLayout:
        """Bring a frame to the GPU, enqueued on the stream.

        Returns:
            How it lies there, from `frame_address` on.
        """
        height, width = frame_bgr.shape[:2]
        self.stream.synchronize()  # what is enqueued may still read the buffer
        if self.frame_buffer is None or self.frame_buffer.host.size < frame_bgr.size:
            if self.frame_buffer is not None:
                self.frame_buffer.free()
            self.frame_buffer = Buffer(self, (frame_bgr.size,), np.uint8)
        self.frame_buffer.host[: frame_bgr.size].reshape(frame_bgr.shape)[:] = frame_bgr
        self.frame_buffer.upload(frame_bgr.nbytes)
        self.uploaded = frame_bgr
        return FrameLayout("bgr", width, height, 3 * width)

    def shared_frame(self, frame_bgr: Array) -> FrameLayout:
        """Return the layout of a frame that the detector has just brought here, or bring it.

        What the detector brought serves once: a caller may write into the same array again.
        """
        brought = self.uploaded is frame_bgr
        height, width = frame_bgr.shape[:2]
        layout = FrameLayout("bgr", width, height, 3 * width)
        if not brought:
            layout = self.upload(frame_bgr)
        self.uploaded = None
        return layout

    @property
    def frame_address(self) -> int:
        """Return where the current frame starts in device memory."""
        assert self.frame_buffer is not None
        return self.frame_buffer.device

    def use(self) -> Gpu:
        """Count one more user."""
        self.users += 1
        return self

    def release(self) -> None:
        """Count one user less; the last one frees everything."""
        self.users -= 1
        if self.users:
            return
        with self.active():
            self.stream.synchronize()
            if self.frame_buffer is not None:
                self.frame_buffer.free()
            del self.stream, self.kernels
        self.frame_buffer = self.uploaded = None
        self.context.detach()


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


class Buffer:
    """Memory on both sides: pinned on the host, and on the device.

    Where the GPU shares the host's memory (a Jetson) both are the same bytes and nothing is copied.
    `host` is a numpy array, `device` an address.
    """

    def __init__(self, gpu: Gpu, shape: tuple[int, ...], dtype: Any) -> None:
        driver = gpu.driver
        self.gpu = gpu
        flags = driver.host_alloc_flags.DEVICEMAP if gpu.integrated else 0
        self.host: Array = driver.pagelocked_empty(shape, dtype, mem_flags=flags)
        self.allocation: Any = None
        if gpu.integrated:
            pinned: Any = self.host.base
            self.device = int(pinned.get_device_pointer())
        else:
            self.allocation = driver.mem_alloc(self.host.nbytes)
            self.device = int(self.allocation)

    def upload(self, count_bytes: int | None = None) -> None:
        """Enqueue the copy of the first bytes to the device."""
        if not self.gpu.integrated:
            source = self.host.reshape(-1).view(np.uint8)[:count_bytes]
            self.gpu.driver.memcpy_htod_async(self.device, source, self.gpu.stream)

    def download(self, count_bytes: int | None = None) -> None:
        """Enqueue the copy of the first bytes from the device."""
        if not self.gpu.integrated:
            target = self.host.reshape(-1).view(np.uint8)[:count_bytes]
            self.gpu.driver.memcpy_dtoh_async(target, self.device, self.gpu.stream)

    def free(self) -> None:
        """Free both sides."""
        if self.allocation is not None:
            self.allocation.free()
            self.allocation = None
        pinned: Any = self.host.base
        self.host = np.zeros(0, self.host.dtype)
        pinned.free()


class Replay:
    """Runs the same launches again and again, as a CUDA graph from the third time on.

    The first run warms up what a capture may not do; a key that comes only once is not worth a
    graph. What a key stands for must not change: addresses, shapes and kernel arguments freeze.
    """

    def __init__(self, gpu: Gpu, enabled: bool, say: Callable[[str], None]) -> None:
        self.gpu, self.enabled, self.say = gpu, enabled, say
        self.seen: set[Hashable] = set()
        self.graphs: dict[Hashable, CudaGraph] = {}

    def run(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        """Enqueue the launches that belong to a key, or replay them."""
        if not self.enabled:
            enqueue()
        elif key in self.graphs:
            self.graphs[key].launch(self.gpu.stream)
        elif key in self.seen:
            self.capture(key, enqueue)
        else:
            self.seen.add(key)
            enqueue()

    def capture(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        """Make a graph of the launches and run it; where that fails, say so once and go on."""
        if len(self.graphs) >= MOST_GRAPHS:
            self.clear()
        self.gpu.stream.synchronize()
        try:
            self.graphs[key] = CudaGraph(self.gpu.stream, enqueue)
        except GraphError as error:
            self.enabled = False
            self.say(f"no CUDA graphs: {error}")
            enqueue()
            return
        self.graphs[key].launch(self.gpu.stream)

    def clear(self) -> None:
        """Free every graph."""
        self.gpu.stream.synchronize()
        for graph in self.graphs.values():
            graph.free()
        self.graphs.clear()
        self.seen.clear()
