"""Memory that host and device exchange, and which kind of it each kind of GPU gets.

| GPU                  | frames                        | parameters and results        |
| -------------------- | ----------------------------- | ----------------------------- |
| integrated (Jetson)  | device memory, one async copy | pinned memory, mapped         |
| discrete             | device memory, one async copy | pinned and device memory,     |
|                      |                               | async copies                  |

An integrated GPU does not cache mapped pinned memory (NVIDIA, "CUDA for Tegra", table 1). The warp
kernel reads a frame many times, so that frames lie in device memory; parameters and results are
read or written once, so that they are mapped and no copy is enqueued for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from feredge.runtime.results import Array

if TYPE_CHECKING:
    from feredge.runtime.gpu.device import Gpu


class Buffer(ABC):
    """Bytes that host and device exchange: `host` is `(n,)` uint8, `device` an address."""

    host: Array
    device: int

    @abstractmethod
    def upload(self, count_bytes: int) -> None:
        """Enqueue the transfer of the first bytes to the device."""

    @abstractmethod
    def download(self, count_bytes: int) -> None:
        """Enqueue the transfer of the first bytes to the host."""

    @abstractmethod
    def free(self) -> None:
        """Free both sides; all work that uses them must be done."""


class MappedBuffer(Buffer):
    """Pinned host memory that the device reads and writes in place."""

    def __init__(self, gpu: Gpu, size_bytes: int) -> None:
        flags = gpu.driver.host_alloc_flags.DEVICEMAP
        self.host = gpu.driver.pagelocked_empty(size_bytes, np.uint8, mem_flags=flags)
        pinned: Any = self.host.base
        self.device = int(pinned.get_device_pointer())

    def upload(self, count_bytes: int) -> None:
        """Do nothing: both sides are the same bytes."""

    def download(self, count_bytes: int) -> None:
        """Do nothing: both sides are the same bytes."""

    def free(self) -> None:
        """Free the memory."""
        free_pinned(self)


class CopiedBuffer(Buffer):
    """Pinned host memory and device memory, with copies on the stream."""

    def __init__(self, gpu: Gpu, size_bytes: int) -> None:
        self.gpu = gpu
        self.allocation = gpu.driver.mem_alloc(size_bytes)
        self.device = int(self.allocation)
        try:
            self.host = gpu.driver.pagelocked_empty(size_bytes, np.uint8)
        except BaseException:
            self.allocation.free()
            raise

    def upload(self, count_bytes: int) -> None:
        """Enqueue the copy of the first bytes to the device."""
        self.gpu.driver.memcpy_htod_async(self.device, self.host[:count_bytes], self.gpu.stream)

    def download(self, count_bytes: int) -> None:
        """Enqueue the copy of the first bytes from the device."""
        self.gpu.driver.memcpy_dtoh_async(self.host[:count_bytes], self.device, self.gpu.stream)

    def free(self) -> None:
        """Free both sides."""
        self.allocation.free()
        free_pinned(self)


SMALL_BUFFERS: dict[bool, type[MappedBuffer] | type[CopiedBuffer]] = {
    True: MappedBuffer, False: CopiedBuffer,  # is the GPU integrated?
}


def small_buffer(gpu: Gpu, size_bytes: int) -> Buffer:
    """Allocate a buffer for parameters or results, of the kind that suits the GPU."""
    return SMALL_BUFFERS[gpu.integrated](gpu, size_bytes)


def free_pinned(buffer: Buffer) -> None:
    """Free the pinned memory of a buffer; its array becomes empty."""
    pinned: Any = buffer.host.base
    buffer.host = np.zeros(0, np.uint8)
    pinned.free()
