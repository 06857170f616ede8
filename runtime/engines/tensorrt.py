"""The GPU backend: a TensorRT plan behind the crop kernel."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from feredge.runtime.engines.base import Engine
from feredge.runtime.errors import EngineError
from feredge.runtime.gpu.frame_layout import layout_of
from feredge.runtime.plans.files import read_plan, tensorrt_for
from feredge.runtime.plans.runner import Plan, PlanRunner, RunnerOptions
from feredge.runtime.plans.session import PlanSession, Shape
from feredge.runtime.preprocess.geometry import check_boxes, crop_matrices
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec


def bucket_sizes(least: int, most: int) -> list[int]:
    """Return the batch sizes that get a context: powers of two inside the profile, and its end."""
    sizes = [1 << k for k in range(most.bit_length()) if least <= 1 << k < most]
    return [*sizes, most]


class TensorRTEngine(Engine):
    """A plan on the first GPU, with everything allocated once for its largest batch."""

    device = "cuda"

    def __init__(self, path: Path, cuda_graphs: bool = True) -> None:
        content, self.spec = read_plan(path, ModelSpec)
        tensorrt_for(path, self.spec.target)  # the package that is most often missing comes first
        options = RunnerOptions(self.spec.input, cuda_graphs=cuda_graphs)
        plan = Plan(path, content, self.spec.target)
        self.runner = PlanRunner(plan, options, lambda session: self.check_session(session, path))
        self.frames = self.runner.frames

    def check_session(self, session: PlanSession, path: Path) -> dict[str, Shape]:
        """Return the largest shape of the output, once the session fits the spec.

        Raises:
            EngineError: the plan's inputs and outputs are not those of its spec.
        """
        side, classes = self.spec.input.side, len(self.spec.labels)
        low, _, high = session.profile()
        found = {session.inputs[0]: high[1:],
                 **{name: tuple(session.engine.get_tensor_shape(name))[1:]
                    for name in session.outputs}}
        expected = {INPUT_NAME: (3, side, side), OUTPUT_NAME: (classes,)}
        if len(session.inputs) != 1 or found != expected:
            raise EngineError(f"{path} has inputs and outputs {found} (without the batch), its "
                              f"sidecar says {expected}; export it again")
        self.max_batch, self.sizes = high[0], bucket_sizes(low[0], high[0])
        return {OUTPUT_NAME: (high[0], classes)}

    def _classify(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        runner, spec = self.runner, self.spec
        size = spec.input.side, spec.input.side
        with runner.activate():
            runner.table.clear()
            for frame, boxes_xyxy in parts:
                layout = layout_of(frame)
                boxes = check_boxes(boxes_xyxy, layout.shape)
                runner.table.add_frame(*crop_matrices(boxes, spec.crop, size[0]), size, layout)
            faces = runner.table.faces
            frames = runner.frames.take([frame for frame, _ in parts])
            runner.run(frames, self.input_shape(faces), self.result_bytes(faces))
            return runner.output(OUTPUT_NAME, (faces, len(spec.labels)))

    def _infer(self, crops: Array) -> Array:
        runner, faces = self.runner, len(crops)
        with runner.activate():
            context = runner.context(self.input_shape(faces))
            values = np.ascontiguousarray(crops, runner.input_dtype)
            runner.gpu.driver.memcpy_htod_async(runner.input, values, runner.gpu.stream)
            runner.session.execute(context)
            runner.results.download(self.result_bytes(faces))
            runner.gpu.stream.synchronize()
            return runner.output(OUTPUT_NAME, (faces, len(self.spec.labels)))

    def profile(self, crops: Array) -> dict[str, float]:
        """Infer, and measure the parts of it; see `Engine.profile`.

        `h2d`, `compute` and `d2h` lie between events on the stream; `enqueue` is the host's time
        for the calls. Crops come from ordinary memory, which is slower than trtexec's pinned
        buffers. Run on an emulated driver only so far.
        """
        runner = self.runner
        with runner.activate():
            stream, driver = runner.gpu.stream, runner.gpu.driver
            values = np.ascontiguousarray(crops, runner.input_dtype)
            context = runner.context(self.input_shape(len(crops)))
            start, sent, computed, received = (driver.Event() for _ in range(4))
            start_s = time.perf_counter()
            start.record(stream)
            driver.memcpy_htod_async(runner.input, values, stream)
            sent.record(stream)
            runner.session.execute(context)
            computed.record(stream)
            runner.results.download(self.result_bytes(len(crops)))
            received.record(stream)
            enqueue_ms = (time.perf_counter() - start_s) * 1e3
            stream.synchronize()
            return {"h2d": sent.time_since(start), "compute": computed.time_since(sent),
                    "d2h": received.time_since(computed), "latency": received.time_since(start),
                    "enqueue": enqueue_ms}

    def input_shape(self, faces: int) -> Shape:
        """Return the network's input for so many faces, padded to a bucket."""
        side = self.spec.input.side
        return next(size for size in self.sizes if size >= faces), 3, side, side

    def result_bytes(self, faces: int) -> int:
        """Return the size of a bucket's predictions."""
        itemsize = self.runner.outputs[OUTPUT_NAME].dtype.itemsize
        return self.input_shape(faces)[0] * len(self.spec.labels) * int(itemsize)

    def close(self) -> None:
        """Free everything; closing twice is fine."""
        self.runner.close()
