"""The GPU backend: a TensorRT plan behind the crop kernel; a frame up, answers down."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime.engines.base import Engine
from feredge.runtime.engines.plan_files import read_plan, tensorrt_for
from feredge.runtime.engines.plan_session import PlanSession
from feredge.runtime.errors import EngineError
from feredge.runtime.gpu.device import Buffer, Gpu, Replay
from feredge.runtime.preprocess.cuda import FrameLayout, WarpFaces, pack_faces, packed_bytes
from feredge.runtime.preprocess.geometry import checked_boxes, crop_matrices
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

MOST_LAYOUTS = 16  # of frames whose launch is kept ready: several cameras, no folder of pictures


def say(message: str) -> None:
    """Warn, once per message."""
    warnings.warn(message, stacklevel=3)


def buckets(least: int, most: int) -> list[int]:
    """Return the batch sizes that get a context: powers of two inside the profile, and its end."""
    sizes = [1 << k for k in range(most.bit_length()) if least <= 1 << k < most]
    return [*sizes, most]


class TensorRTEngine(Engine):
    """A plan on the first GPU, with everything allocated once for its largest batch."""

    def __init__(self, path: Path, cuda_graphs: bool = True) -> None:
        content, self.spec = read_plan(path, ModelSpec)
        tensorrt_for(path, self.spec.target)  # the likeliest thing to be missing is named first
        self.gpu: Gpu | None = Gpu().use()
        try:
            with self.gpu.active():
                self.session = PlanSession(self.gpu, path, content, self.spec.target)
                self.allocate(self.gpu, path)
                self.replay = Replay(self.gpu, cuda_graphs and not self.session.is_rtx, say)
        except BaseException:
            self.gpu.release()
            raise
        self.warps: dict[FrameLayout, WarpFaces] = {}

    def allocate(self, gpu: Gpu, path: Path) -> None:
        """Allocate every buffer.

        Raises:
            EngineError: the plan's inputs and outputs are not those of its spec.
        """
        session, side, classes = self.session, self.spec.input.side, len(self.spec.labels)
        low, _, high = session.profile()
        found = {INPUT_NAME: high[1:], **{name: tuple(session.engine.get_tensor_shape(name))[1:]
                                         for name in session.outputs}}
        expected = {INPUT_NAME: (3, side, side), OUTPUT_NAME: (classes,)}
        if session.inputs != [INPUT_NAME] or found != expected:
            raise EngineError(f"{path} has inputs and outputs {found} (without the batch), its "
                              f"sidecar says {expected}; export it again")
        self.max_batch = high[0]
        self.sizes = buckets(low[0], high[0])
        self.half = session.is_half(INPUT_NAME)
        values = np.float16 if self.half else np.float32
        answers = np.float16 if session.is_half(OUTPUT_NAME) else np.float32
        self.crop_values = np.dtype(values)
        self.crop_bytes = self.crop_values.itemsize * 3 * side * side
        self.crops = gpu.driver.mem_alloc(self.crop_bytes * high[0])
        self.packed = Buffer(gpu, (packed_bytes(high[0]),), np.uint8)
        self.answers = Buffer(gpu, (high[0], classes), answers)
        self.addresses = {INPUT_NAME: int(self.crops), OUTPUT_NAME: self.answers.device}

    def opened(self) -> Gpu:
        """Return the GPU.

        Raises:
            EngineError: the engine was closed.
        """
        if self.gpu is None:
            raise EngineError("this engine was closed")
        return self.gpu

    def _classify(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        if len(parts) > 1:
            return self.classify_together(parts)
        ((frame_bgr, boxes_xyxy),) = parts
        gpu = self.opened()
        with gpu.active():
            layout = self.pack(gpu, frame_bgr, boxes_xyxy)
            warp, bucket = self.warp(layout), self.bucket(len(boxes_xyxy))
            context = self.context(bucket)

            def enqueue() -> None:
                self.packed.upload(packed_bytes(bucket))
                warp.launch(gpu.frame_address, self.packed.device, int(self.crops), bucket,
                            gpu.stream)
                self.finish(context, bucket)

            self.replay.run((bucket, layout, gpu.frame_address), enqueue)
            return self.taken(len(boxes_xyxy))

    def classify_together(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        """Cut the faces of one frame after the other, and infer all of them at once.

        What is launched differs from time to time, so that no graph is made of it.
        """
        gpu, cut = self.opened(), 0
        with gpu.active():
            for frame_bgr, boxes_xyxy in parts:
                gpu.stream.synchronize()  # the launch before may still read what is packed
                layout, count = self.pack(gpu, frame_bgr, boxes_xyxy), len(boxes_xyxy)
                self.packed.upload(packed_bytes(count))
                self.warp(layout).launch(gpu.frame_address, self.packed.device,
                                         int(self.crops) + cut * self.crop_bytes, count, gpu.stream)
                cut += count
            bucket = self.bucket(cut)
            self.finish(self.context(bucket), bucket)
            return self.taken(cut)

    def pack(self, gpu: Gpu, frame_bgr: Array, boxes_xyxy: Array) -> FrameLayout:
        """Bring a frame to the GPU and write where its faces lie; returns how it lies there."""
        boxes, side = checked_boxes(boxes_xyxy, frame_bgr.shape), self.spec.input.side
        matrices, samples = crop_matrices(boxes, self.spec.crop, side)
        layout = gpu.shared_frame(frame_bgr)
        pack_faces(self.packed.host, matrices, samples, (side, side), layout)
        return layout

    def _infer(self, crops: Array) -> Array:
        gpu = self.opened()
        with gpu.active():
            bucket = self.bucket(len(crops))
            values = np.ascontiguousarray(crops, self.crop_values)
            gpu.driver.memcpy_htod_async(self.crops, values, gpu.stream)
            self.finish(self.context(bucket), bucket)
            return self.taken(len(crops))

    def infer_split_ms(self, crops: Array) -> dict[str, float]:
        """Infer, and return where the time went, by trtexec's definitions.

        `h2d`, `compute` and `d2h` lie between events on the stream, `latency` is their sum;
        `enqueue` is the host's time for making the calls. Crops come from ordinary memory, which
        is slower than trtexec's pinned buffers. Exercised on an emulated driver alone so far.

        Args:
            crops: `(n, 3, side, side)` float32, 1 to `max_batch` of them.

        Returns:
            Milliseconds.
        """
        gpu = self.opened()
        with gpu.active():
            bucket = self.bucket(len(crops))
            values, context = np.ascontiguousarray(crops, self.crop_values), self.context(bucket)
            start, sent, computed, received = (gpu.driver.Event() for _ in range(4))
            start_s = time.perf_counter()
            start.record(gpu.stream)
            gpu.driver.memcpy_htod_async(self.crops, values, gpu.stream)
            sent.record(gpu.stream)
            self.session.execute(context)
            computed.record(gpu.stream)
            self.answers.download(bucket * self.answers.host[0].nbytes)
            received.record(gpu.stream)
            enqueue_ms = (time.perf_counter() - start_s) * 1e3
            gpu.stream.synchronize()
            return {"h2d": sent.time_since(start), "compute": computed.time_since(sent),
                    "d2h": received.time_since(computed), "latency": received.time_since(start),
                    "enqueue": enqueue_ms}

    def bucket(self, faces: int) -> int:
        """Return the smallest batch size that holds so many faces."""
        return next(size for size in self.sizes if size >= faces)

    def context(self, bucket: int) -> Any:
        """Return the execution context of a batch size."""
        side = self.spec.input.side
        return self.session.context((bucket, 3, side, side), self.addresses)

    def warp(self, layout: FrameLayout) -> WarpFaces:
        """Return the crop kernel for frames of a layout."""
        if layout not in self.warps:
            if len(self.warps) >= MOST_LAYOUTS:
                self.warps.clear()
            kernels = self.opened().kernels
            self.warps[layout] = WarpFaces(kernels, layout, self.spec.input, half=self.half)
        return self.warps[layout]

    def finish(self, context: Any, bucket: int) -> None:
        """Enqueue the network and the way of its answers to the host."""
        self.session.execute(context)
        self.answers.download(bucket * self.answers.host[0].nbytes)

    def taken(self, faces: int) -> Array:
        """Wait for the answers and return a copy of them, float32."""
        self.opened().stream.synchronize()
        answers: Array = self.answers.host[:faces].astype(np.float32)
        return answers

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
            self.crops.free()
        self.gpu.release()
        self.gpu = None
