"""Frames in device memory, which the detector uploads and the engine reads again."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from feredge.runtime.gpu.device import Gpu
from feredge.runtime.gpu.frame_layout import FrameLayout, layout_of
from feredge.runtime.results import Array

MAX_SLOTS = 16  # of frames that wait; then the oldest is dropped and would be uploaded again


@dataclass(frozen=True)
class GpuFrame:
    """One frame in device memory: how it lies there, and the address of its first row."""

    layout: FrameLayout
    address: int

    @property
    def chroma_address(self) -> int:
        """Return the address of NV12's first UV row; 0 for other formats."""
        layout = self.layout
        return self.address + layout.pitch * layout.height if layout.pixels == "nv12" else 0


class Slot:
    """Device memory for one frame, and the array whose upload waits to be taken."""

    def __init__(self, gpu: Gpu, size_bytes: int) -> None:
        self.allocation: Any = gpu.driver.mem_alloc(size_bytes)
        self.size_bytes = size_bytes
        self.waiting: weakref.ref[Array] | None = None

    @property
    def is_free(self) -> bool:
        """Return whether nobody will take what the slot holds."""
        return self.waiting is None or self.waiting() is None


class FrameStore:
    """The frames that detector and engine share on one GPU.

    The detector puts a frame, the engine takes it: an upload serves one take, since a caller may
    write into the same array afterwards. A frame that nobody put is uploaded when it is taken. A
    slot is used again once its frame was taken, so that there are as many as frames wait: one per
    source. All methods but `retain` and `release` are called inside `gpu.activate()`.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.users = gpu, 0
        self.slots: list[Slot] = []  # the least recently used first
        self.chosen: list[Slot] = []  # of the running `take`, which must not be freed

    def retain(self) -> FrameStore:
        """Count one more user, and return the store itself."""
        self.users += 1
        return self

    def release(self) -> None:
        """Count one user less; the last one frees the frames and the GPU."""
        self.users -= 1
        if not self.users:
            with self.gpu.activate():
                for slot in list(self.slots):
                    self.remove(slot)
            self.gpu.close()

    def put(self, pixels: Array) -> GpuFrame:
        """Upload a frame; the next `take` of the same array finds it.

        Args:
            pixels: uint8, in a shape that `layout_of` accepts; it must not change before the take.

        Returns:
            The frame in device memory; its copy is enqueued on the stream.
        """
        return GpuFrame(layout_of(pixels), int(self.upload(pixels).allocation))

    def take(self, frames: Sequence[Array]) -> list[GpuFrame]:
        """Return frames in device memory, those that were put without another upload.

        Args:
            frames: uint8 each, in shapes that `layout_of` accepts.
        """
        self.chosen = slots = []
        for pixels in frames:
            slots.append(self.slot_of(pixels) or self.upload(pixels))
        self.chosen = []
        for slot in slots:
            slot.waiting = None
        return [GpuFrame(layout_of(pixels), int(slot.allocation))
                for pixels, slot in zip(frames, slots)]

    def slot_of(self, pixels: Array) -> Slot | None:
        """Return the slot in which the upload of this very array waits."""
        return next((slot for slot in self.slots
                     if slot.waiting is not None and slot.waiting() is pixels), None)

    def upload(self, pixels: Array) -> Slot:
        """Enqueue the copy of a frame into a slot.

        The array is ordinary memory: the driver has read it when the call returns. The copy waits
        on the stream for the work that reads what the slot held before.
        """
        slot = self.slot_of(pixels) or self.free_slot(pixels.nbytes)
        self.gpu.driver.memcpy_htod_async(
            slot.allocation, np.ascontiguousarray(pixels), self.gpu.stream)
        slot.waiting = weakref.ref(pixels)
        return slot

    def free_slot(self, size_bytes: int) -> Slot:
        """Return the slot that fits best, or a new one in the place of a smaller one."""
        free = [slot for slot in self.slots if slot.is_free]
        if fitting := [slot for slot in free if slot.size_bytes >= size_bytes]:
            slot = min(fitting, key=lambda each: each.size_bytes)
            self.slots.remove(slot)
        else:
            oldest = free or [slot for slot in self.slots if slot not in self.chosen]
            if oldest and (free or len(self.slots) >= MAX_SLOTS):
                self.remove(oldest[0])
            slot = Slot(self.gpu, size_bytes)
        self.slots.append(slot)
        return slot

    def remove(self, slot: Slot) -> None:
        """Free a slot once no enqueued work reads it."""
        self.gpu.stream.synchronize()
        self.slots.remove(slot)
        slot.allocation.free()
