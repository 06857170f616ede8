"""A plan with everything that it needs on the GPU; an engine and a detector each own one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime.errors import EngineError
from feredge.runtime.gpu.buffers import small_buffer
from feredge.runtime.gpu.device import Gpu
from feredge.runtime.gpu.frame_layout import FrameLayout
from feredge.runtime.gpu.frames import FrameStore, GpuFrame
from feredge.runtime.gpu.replay import Replay
from feredge.runtime.plans.session import PlanSession, Shape
from feredge.runtime.preprocess.cuda import SOURCE, WarpFaces
from feredge.runtime.preprocess.face_table import HEADER, FaceTable, table_bytes
from feredge.runtime.results import Array
from feredge.runtime.spec import InputSpec, TargetSpec

ALIGNMENT = 256  # bytes: what TensorRT expects of an address
MAX_WARPS, MAX_CONTEXTS = 16, 8  # several cameras, but not a folder of pictures of all sizes


@dataclass(frozen=True)
class Plan:
    """A plan file that was read and checked."""

    path: Path
    content: bytes
    target: TargetSpec


@dataclass(frozen=True)
class RunnerOptions:
    """How a runner works: its crop's normalization and border, graphs, and shared frames.

    Shared `frames` bring their GPU along, whose setting of graphs holds then.
    """

    input: InputSpec
    black: bool = False
    cuda_graphs: bool = True
    frames: FrameStore | None = None


@dataclass(frozen=True)
class Output:
    """Where an output lies in the block of results, and its type."""

    start: int
    dtype: Any


class PlanRunner:
    """Session, buffers, crop kernel and replayed launches of a plan, freed in one order.

    Args:
        plan: the file.
        options: see `RunnerOptions`.
        outputs_of: checks the session's inputs and outputs, and returns the largest shape of each
            output; raises EngineError for another network's plan.
    """

    def __init__(
        self, plan: Plan, options: RunnerOptions,
        outputs_of: Callable[[PlanSession], Mapping[str, Shape]],
    ) -> None:
        self.options = options
        self.frames = (options.frames or FrameStore(Gpu(options.cuda_graphs))).retain()
        self.gpu, self.is_open = self.frames.gpu, True
        self.warps: dict[tuple[FrameLayout, tuple[int, int]], WarpFaces] = {}
        self.resources, self.buffers = ExitStack(), ExitStack()  # closed last in, first out
        self.resources.callback(self.buffers.close)
        try:
            with self.gpu.activate():
                self.session = PlanSession(self.gpu, plan.path, plan.content, plan.target)
                self.resources.callback(self.session.close)
                self.replay = Replay(self.gpu, self.gpu.cuda_graphs and self.session.can_capture)
                self.resources.callback(self.replay.clear)
                self.allocate(outputs_of(self.session))
        except BaseException:
            self.close()
            raise

    def allocate(self, outputs: Mapping[str, Shape]) -> None:
        """Allocate the network's input, the faces' parameters and one block for all outputs."""
        _, _, largest = self.session.profile()
        name, faces = self.session.inputs[0], largest[0]
        self.input_dtype = self.dtype_of(name)
        self.input = self.gpu.driver.mem_alloc(prod(largest) * self.input_dtype.itemsize)
        self.buffers.callback(self.input.free)
        self.parameters = small_buffer(self.gpu, table_bytes(faces, faces))
        self.buffers.callback(self.parameters.free)
        self.table, self.max_frames = FaceTable(self.parameters.host, faces, faces), faces
        self.outputs: dict[str, Output] = {}
        end = 0
        for output, shape in outputs.items():
            self.outputs[output] = Output(end, self.dtype_of(output))
            size = prod(shape) * self.dtype_of(output).itemsize
            end += -(-size // ALIGNMENT) * ALIGNMENT
        self.results = small_buffer(self.gpu, end)
        self.buffers.callback(self.results.free)
        self.addresses = {name: int(self.input), **{
            output: self.results.device + place.start for output, place in self.outputs.items()}}

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Return the type of a tensor."""
        return np.dtype(np.float16 if self.session.is_fp16(name) else np.float32)

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Make the GPU current for this thread, alone; every other method needs it.

        Raises:
            EngineError: the runner was closed.
        """
        if not self.is_open:
            raise EngineError("this engine or detector was closed")
        with self.gpu.activate():
            yield

    def run(self, frames: Sequence[GpuFrame], shape: Shape, result_bytes: int) -> None:
        """Crop the faces in `table`, run the network and download its results.

        Args:
            frames: in the order of the table's headers.
            shape: of the network's input; its first number is the batch, padded to a bucket.
            result_bytes: how much of the block of results to download.
        """
        context, batch = self.context(shape), shape[0]
        warps = [self.warp(frame.layout, (shape[2], shape[3])) for frame in frames]

        def enqueue() -> None:
            self.parameters.upload(table_bytes(self.max_frames, batch))
            for k, (frame, warp) in enumerate(zip(frames, warps)):
                header = self.parameters.device + HEADER.itemsize * k
                warp.launch(frame.address, header, int(self.input), batch, self.gpu.stream,
                            frame.chroma_address)
            self.session.execute(context)
            self.results.download(result_bytes)

        self.replay.run((shape, result_bytes, *frames), enqueue)
        self.gpu.stream.synchronize()

    def context(self, shape: Shape) -> Any:
        """Return the execution context of an input shape."""
        if len(self.session.contexts) >= MAX_CONTEXTS and shape not in self.session.contexts:
            self.replay.clear()
            self.session.contexts.clear()
        return self.session.context(shape, self.addresses)

    def warp(self, layout: FrameLayout, size: tuple[int, int]) -> WarpFaces:
        """Return the crop kernel for frames of a layout and crops of a size."""
        key = layout, size
        if key not in self.warps:
            if len(self.warps) >= MAX_WARPS:
                self.warps.clear()
            self.warps[key] = WarpFaces(
                self.gpu.module(SOURCE), layout, self.options.input, size,
                self.input_dtype == np.float16, self.options.black)
        return self.warps[key]

    def output(self, name: str, shape: Shape) -> Array:
        """Return a copy of the first values of an output, float32 of this shape."""
        place = self.outputs[name]
        end = place.start + prod(shape) * place.dtype.itemsize
        values = self.results.host[place.start : end].view(place.dtype).reshape(shape)
        return np.array(values, np.float32)

    def close(self) -> None:
        """Free everything; closing twice is fine."""
        if not self.is_open:
            return
        self.is_open = False
        with self.gpu.activate():
            self.gpu.stream.synchronize()
            self.warps.clear()
            self.resources.close()
        self.frames.release()
