"""Face detection on the GPU: a YuNet-format plan behind the crop kernel, decoded on the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from feredge.runtime.detect.base import Detector
from feredge.runtime.detect.sizes import DetectionSize
from feredge.runtime.detect.yunet import OUTPUTS, canvas_size, decode, output_shape
from feredge.runtime.errors import EngineError
from feredge.runtime.gpu.frame_layout import FrameLayout, layout_of
from feredge.runtime.gpu.frames import FrameStore
from feredge.runtime.plans.files import read_plan, tensorrt_for
from feredge.runtime.plans.runner import Plan, PlanRunner, RunnerOptions
from feredge.runtime.plans.session import PlanSession, Shape
from feredge.runtime.preprocess.geometry import scaled_frame
from feredge.runtime.results import Array, Faces
from feredge.runtime.spec import DetectorSpec, InputSpec

# Levels as they are, 0 to 255 in BGR order: the crop kernel divides by 255, std multiplies again.
RAW_BGR = InputSpec(1, "bgr", std=(1 / 255, 1 / 255, 1 / 255))


class PlanDetector(Detector):
    """A YuNet-format plan.

    Args:
        path: the plan.
        size: selects the long side to which a frame is scaled.
        frames: of the engine that classifies the same frames: they are uploaded once then.
    """

    def __init__(
        self, path: Path, size: DetectionSize, frames: FrameStore | None = None
    ) -> None:
        content, self.spec = read_plan(path, DetectorSpec)
        tensorrt_for(path, self.spec.target)
        if (size.options.size_px or 0) > self.spec.size_px:
            raise EngineError(f"{path} takes frames of up to {self.spec.size_px} px; pass "
                              f"`size_px` {self.spec.size_px} or less, or build it larger")
        self.size = replace(size, most_px=self.spec.size_px, frames_per_s=None)
        options = RunnerOptions(RAW_BGR, black=True, frames=frames)
        plan = Plan(path, content, self.spec.target)
        self.runner = PlanRunner(plan, options, lambda session: self.check_session(session, path))
        self.packed: tuple[FrameLayout, Shape, Shape] | None = None

    def check_session(self, session: PlanSession, path: Path) -> dict[str, Shape]:
        """Return the largest shape of each output, once the session is known to be YuNet's.

        Raises:
            EngineError: the plan is not in YuNet's format.
        """
        low, _, high = session.profile()
        if set(session.outputs) != set(OUTPUTS) or len(session.inputs) != 1:
            raise EngineError(f"{path} is not a YuNet-format face detector: it has outputs "
                              f"{', '.join(sorted(session.outputs))}")
        self.fixed = (high[2], high[3]) if low == high else None
        return {name: output_shape(name, (high[2], high[3])) for name in OUTPUTS}

    def detect(self, frame_bgr: Array) -> Faces:
        """Find the faces of a frame.

        Args:
            frame_bgr: `(h, w, 3)` uint8; also `(h, w, 4)` BGRx or `(h * 3 / 2, w)` NV12.

        Returns:
            Faces in the frame's own pixels, best first.
        """
        layout, runner = layout_of(frame_bgr), self.runner
        inner, canvas = canvas_size(layout.shape, self.size.of(layout.shape), self.fixed)
        with runner.activate():
            if self.packed != (layout, inner, canvas):
                runner.table.clear()
                runner.table.add_frame(*scaled_frame(layout.shape, inner), canvas, layout)
                self.packed = layout, inner, canvas
            frame = runner.frames.put(frame_bgr)
            runner.run([frame], (1, 3, *canvas), len(runner.results.host))
            outputs = {name: runner.output(name, output_shape(name, canvas)) for name in OUTPUTS}
        scale = inner[0] / layout.width, inner[1] / layout.height
        return decode(outputs, canvas, scale, self.size.options.min_score)

    def close(self) -> None:
        """Free everything; closing twice is fine."""
        self.runner.close()
