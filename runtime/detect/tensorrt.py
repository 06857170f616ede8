"""Face detection on the GPU: a YuNet-format plan behind the crop kernel, decoded on the host."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime.detect.base import Detector
from feredge.runtime.detect.yunet import OUTPUTS, canvas_size, decoded
from feredge.runtime.engines.plan_files import read_plan, tensorrt_for
from feredge.runtime.engines.plan_session import PlanSession
from feredge.runtime.errors import EngineError
from feredge.runtime.gpu.device import Buffer, Gpu, Replay
from feredge.runtime.preprocess.cuda import FrameLayout, WarpFaces, pack_faces, packed_bytes
from feredge.runtime.preprocess.geometry import scaled_frame
from feredge.runtime.results import Array, Faces
from feredge.runtime.spec import DetectorSpec, InputSpec

ALIGNMENT = 256  # bytes: what TensorRT wants of an address
# Values as they are, 0 to 255 in BGR order: the crop kernel divides by 255, this takes it back.
RAW_BGR = InputSpec(1, "bgr", std=(1 / 255, 1 / 255, 1 / 255))
MOST_SHAPES = 8


class PlanDetector(Detector):
    """A YuNet-format plan; shares the frame on the GPU with the engine it was opened beside."""

    def __init__(
        self, path: Path, size_px: int, min_score: float, gpu: Gpu | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        content, self.spec = read_plan(path, DetectorSpec)
        tensorrt_for(path, self.spec.target)
        if size_px > self.spec.size_px:
            raise EngineError(f"{path} takes frames of up to {self.spec.size_px} px; pass "
                              f"--detector-size {self.spec.size_px} or less, or build it larger")
        self.size_px, self.min_score = size_px, min_score
        self.gpu: Gpu | None = (gpu or Gpu()).use()
        try:
            with self.gpu.active():
                self.session = PlanSession(self.gpu, path, content, self.spec.target)
                self.allocate(self.gpu, path)
        except BaseException:
            self.gpu.release()
            raise
        self.replay = Replay(self.gpu, cuda_graphs and not self.session.is_rtx,
                             lambda message: warnings.warn(message, stacklevel=2))
        self.warps: dict[tuple[FrameLayout, tuple[int, int]], WarpFaces] = {}

    def allocate(self, gpu: Gpu, path: Path) -> None:
        """Allocate the canvas, and one block for all outputs at their largest.

        Raises:
            EngineError: the plan is not in YuNet's format.
        """
        low, _, high = self.session.profile()
        if set(self.session.outputs) != set(OUTPUTS):
            raise EngineError(f"{path} is not a YuNet-format face detector: it has outputs "
                              f"{', '.join(sorted(self.session.outputs))}")
        self.fixed = (high[2], high[3]) if low == high else None
        self.canvas = gpu.driver.mem_alloc(4 * int(np.prod(high)))
        self.packed = Buffer(gpu, (packed_bytes(1),), np.uint8)
        self.places: dict[str, tuple[int, int]] = {}
        end = 0
        for name in OUTPUTS:
            part, stride = name.split("_")
            width = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}[part]
            size = 4 * width * (high[2] // int(stride)) * (high[3] // int(stride))
            self.places[name] = (end, width)
            end += -(-size // ALIGNMENT) * ALIGNMENT
        self.answers = Buffer(gpu, (end,), np.uint8)
        self.addresses = {self.session.inputs[0]: int(self.canvas)}
        for name, (start, _) in self.places.items():
            self.addresses[name] = self.answers.device + start

    def detect(self, frame_bgr: Array) -> Faces:
        """Find the faces of a frame.

        Args:
            frame_bgr: `(h, w, 3)` uint8.

        Returns:
            Faces in the frame's own pixels, best first.
        """
        gpu = self.opened()
        inner, shape = canvas_size(frame_bgr.shape, self.size_px, self.fixed)
        height, width = frame_bgr.shape[:2]
        scale = inner[0] / width, inner[1] / height
        matrix, samples = scaled_frame(frame_bgr.shape, inner)
        with gpu.active():
            layout = gpu.upload(frame_bgr)
            pack_faces(self.packed.host, matrix, samples, shape, layout)
            self.run(gpu, layout, shape)
            gpu.stream.synchronize()
            outputs = {name: self.output(name, shape) for name in OUTPUTS}
            return decoded(outputs, shape, scale, self.min_score)

    def run(self, gpu: Gpu, layout: FrameLayout, shape: tuple[int, int]) -> None:
        """Enqueue the warp, the network and the way of its answers to the host."""
        if len(self.session.contexts) > MOST_SHAPES:
            gpu.stream.synchronize()
            self.replay.clear()
            self.session.contexts.clear()
        context = self.session.context((1, 3, *shape), self.addresses)
        warp = self.warp(layout, shape)

        def enqueue() -> None:
            self.packed.upload()
            warp.launch(gpu.frame_address, self.packed.device, int(self.canvas), 1, gpu.stream)
            self.session.execute(context)
            self.answers.download()

        self.replay.run((layout, shape, gpu.frame_address), enqueue)

    def warp(self, layout: FrameLayout, shape: tuple[int, int]) -> WarpFaces:
        """Return the crop kernel that makes a canvas of a frame."""
        if (layout, shape) not in self.warps:
            kernels: Any = self.opened().kernels
            if len(self.warps) >= MOST_SHAPES:
                self.warps.clear()
            warp = WarpFaces(kernels, layout, RAW_BGR, shape, black=True)
            self.warps[layout, shape] = warp
        return self.warps[layout, shape]

    def output(self, name: str, shape: tuple[int, int]) -> Array:
        """Return one output as `(1, cells, values)` float32."""
        start, width = self.places[name]
        stride = int(name.split("_")[1])
        cells = (shape[0] // stride) * (shape[1] // stride)
        content = self.answers.host[start : start + 4 * cells * width]
        values: Array = content.view(np.float32).reshape(1, cells, width).copy()
        return values

    def opened(self) -> Gpu:
        """Return the GPU.

        Raises:
            EngineError: the detector was closed.
        """
        if self.gpu is None:
            raise EngineError("this detector was closed")
        return self.gpu

    def close(self) -> None:
        """Free everything; closing twice is fine."""
        if self.gpu is None:
            return
        with self.gpu.active():
            self.gpu.stream.synchronize()
            self.replay.clear()
            self.warps.clear()
            self.session.close()
            self.packed.free()
            self.answers.free()
            self.canvas.free()
        self.gpu.release()
        self.gpu = None
