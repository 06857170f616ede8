"""The crop on a GPU: the warp kernel's arguments and its launch.

Nothing here allocates device memory, copies or waits: the caller owns the buffers and the stream.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from feredge.runtime.gpu.color import Color, color_of
from feredge.runtime.gpu.frame_layout import FORMATS, FrameLayout
from feredge.runtime.spec import InputSpec

SOURCE = Path(__file__).parent / "warp_faces.cu"
ARGUMENTS = "PPiiiiPPiii6f6f"  # Frame, faces, crops, size, reverse, Normalization, Color
BLOCK = (32, 4, 1)
TILE_PX = (32, 16)  # what a block makes of a crop: a thread makes four rows
MAX_FACES = 65535  # CUDA's limit of grid z


class WarpFaces:
    """The warp kernel for one kind of frame and one network input, in the current context.

    It makes `(n, 3, height, width)` crops in float32 or float16; with `black`, pixels outside the
    frame are black, as a face detector pads it, instead of the frame's border.
    """

    def __init__(
        self, module: Any, layout: FrameLayout, input: InputSpec,
        size: tuple[int, int] | None = None, fp16: bool = False, black: bool = False,
    ) -> None:
        self.module, self.layout, self.size = module, layout, size or (input.side, input.side)
        self.form = FORMATS[layout.pixels]
        border, output = "black" if black else "replicate", "fp16" if fp16 else "fp32"
        self.function = module.get_function(f"warp_{self.form.variant}_{border}_{output}")
        self.function.prepare(ARGUMENTS)
        reverse = self.form.order != input.channels and bool(self.form.order)
        height, width = self.size
        self.constants = (width, height, int(reverse), *normalization(input), *conversion(layout))

    def launch(
        self, frame: int, faces: int, crops: int, max_faces: int, stream: Any, chroma: int = 0
    ) -> None:
        """Enqueue the crops of a frame; all addresses are in device memory.

        Args:
            frame: the frame's first row.
            faces: the frame's header in a `FaceTable`, copied there.
            crops: the first crop of the batch.
            max_faces: the most faces that the header may count; a captured launch keeps it.
            stream: PyCUDA's, or None for the default stream.
            chroma: NV12's first UV row.

        Raises:
            ValueError: an address or the number of faces is out of the kernel's range.
        """
        layout = self.layout
        if not 0 < max_faces <= MAX_FACES:
            raise ValueError(f"max_faces is {max_faces}, expected 1 to {MAX_FACES}")
        if frame % self.form.alignment or chroma % 2 or (layout.pixels == "nv12") != bool(chroma):
            raise ValueError(f"{layout.pixels} frame at {frame:#x}, chroma at {chroma:#x}: expected"
                             f" multiples of {self.form.alignment} and 2, and chroma for nv12 only")
        height, width = self.size
        grid = (-(-width // TILE_PX[0]), -(-height // TILE_PX[1]), max_faces)
        self.function.prepared_async_call(
            grid, BLOCK, stream, frame, chroma, layout.pitch, layout.chroma_pitch, layout.width,
            layout.height, faces, crops, *self.constants,
        )


def normalization(input: InputSpec) -> tuple[float, ...]:
    """Return gain and bias of each plane, so that 0 to 255 becomes `(value / 255 - mean) / std`."""
    mean, std = np.array(input.mean, np.float64), np.array(input.std, np.float64)
    return (*(1 / (255 * std)).tolist(), *(-mean / std).tolist())


def conversion(layout: FrameLayout) -> Color:
    """Return the conversion of NV12 values; other formats ignore it."""
    if layout.pixels == "nv12":
        return color_of(layout.color, layout.full_range)
    return Color(0, 0, 0, 0, 0, 0)
