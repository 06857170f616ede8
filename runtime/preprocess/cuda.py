"""The crop on a GPU: what the warp kernel reads, packed on the host, and its launch.

Nothing here allocates device memory, copies or waits: the engine owns the buffers and the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from feredge.runtime.errors import require
from feredge.runtime.gpu.colour import LUMA_WEIGHTS, Colour, colour_of
from feredge.runtime.gpu.kernel_cache import kernel_cubin
from feredge.runtime.preprocess.geometry import MAX_SAMPLES
from feredge.runtime.results import Array
from feredge.runtime.spec import InputSpec

# The kernel's struct Face, and its struct Faces before the first of them.
FACE = np.dtype([
    ("matrix", "4f4"), ("offset", "2f4"), ("origin", "2i4"), ("anchor", "2i4"),
    ("samples", "i4"), ("inverse_samples", "f4"),
])
HEADER_BYTES = 16
ARGUMENTS = "PPiiiiPPiii6f6f"  # Frame, faces, crops, size, reverse, Normalise, Colour

BLOCK = (8, 16, 1)
TILE_PX = (32, 16)  # what a block makes of a crop
MAX_FACES = 65535  # CUDA's limit of grid z
FAR_PX = 2**23  # integers up to here are exact in float32, which the kernel clamps in


@dataclass(frozen=True)
class PixelFormat:
    """How the kernel reads a format: its variant, channel order, bytes a pixel, alignment."""

    variant: str
    order: str
    bytes_per_pixel: int
    alignment: int = 1


FORMATS = {
    "bgr": PixelFormat("interleaved3", "bgr", 3),
    "rgb": PixelFormat("interleaved3", "rgb", 3),
    "bgra": PixelFormat("interleaved4", "bgr", 4, alignment=4),
    "grey": PixelFormat("grey", "", 1),
    "nv12": PixelFormat("nv12", "rgb", 1),
}


@dataclass(frozen=True)
class FrameLayout:
    """How frames lie in device memory: format, size in px, bytes from one row to the next.

    `pixels` is bgr, bgra, rgb, grey or nv12. NV12 has its UV rows `chroma_pitch` bytes apart, and
    `colour` (bt601 or bt709) and `full_range` say what its values mean.
    """

    pixels: str
    width: int
    height: int
    pitch: int
    chroma_pitch: int = 0
    colour: str = "bt601"
    full_range: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: the kernel cannot read such frames.
        """
        if self.pixels not in FORMATS:
            raise ValueError(f"frames are {self.pixels!r}, expected one of {', '.join(FORMATS)}")
        if not (0 < self.width < FAR_PX and 0 < self.height < FAR_PX):
            raise ValueError(f"frames are {self.width}x{self.height}, expected 1 px or more")
        form = FORMATS[self.pixels]
        check_pitch("pitch", self.pitch, self.width * form.bytes_per_pixel, form.alignment)
        if self.pixels == "nv12":
            check_pitch("chroma_pitch", self.chroma_pitch, (self.width + 1) // 2 * 2, 2)
            if self.colour not in LUMA_WEIGHTS:
                raise ValueError(f"colour is {self.colour!r}, expected {' or '.join(LUMA_WEIGHTS)}")


def check_pitch(name: str, pitch: int, row_bytes: int, alignment: int) -> None:
    """Refuse a pitch that is shorter than a row, or that the kernel's wide reads cannot take."""
    if pitch < row_bytes or pitch % alignment:
        raise ValueError(f"{name} is {pitch}, expected at least {row_bytes} bytes and a multiple "
                         f"of {alignment}")


def packed_bytes(capacity: int) -> int:
    """Return the size of what `pack_faces` fills."""
    return HEADER_BYTES + FACE.itemsize * capacity


def pack_faces(
    packed: Array, matrices: Array, samples: Array, size: tuple[int, int], layout: FrameLayout
) -> None:
    """Write how many faces there are and where they lie, as the kernel reads it.

    Args:
        packed: `packed_bytes(capacity)` uint8, often pinned; faces beyond the count stay as they
            were.
        matrices: `(n, 2, 3)` float64 from `crop_matrices`, or any that can be inverted.
        samples: `(n,)`, samples per pixel and axis.
        size: height and width of a crop.
        layout: of the frames.

    Raises:
        ValueError: more faces than `packed` holds, or a sample count out of its range.
    """
    count, capacity = len(matrices), (len(packed) - HEADER_BYTES) // FACE.itemsize
    if count > capacity:
        raise ValueError(f"{count} faces, expected at most {capacity}")
    if count and not (1 <= samples.min() and samples.max() <= MAX_SAMPLES):
        raise ValueError(f"samples are {samples.tolist()}, expected 1 to {MAX_SAMPLES}")
    packed[:4].view(np.int32)[0] = count
    faces = packed[HEADER_BYTES:].view(FACE)[:count]
    anchors = nearest_anchors(matrices, size, (layout.width, layout.height))
    centres = np.einsum("nij,nj->ni", matrices[:, :, :2], anchors) + matrices[:, :, 2] - 0.5
    # Even, for NV12's half-sized plane.
    origins = np.clip(2 * np.floor(centres / 2), -FAR_PX, FAR_PX)
    faces["matrix"] = matrices[:, :, :2].reshape(count, 4)
    faces["offset"] = centres - origins
    faces["origin"], faces["anchor"] = origins, anchors
    faces["samples"], faces["inverse_samples"] = samples, 1 / np.asarray(samples)


def nearest_anchors(matrices: Array, size: tuple[int, int], frame_px: tuple[int, int]) -> Array:
    """Return the whole position in each crop that is nearest to where crop and frame meet.

    float32 is exact enough near it, however far the rest of the crop reaches out of the frame.

    Returns:
        `(n, 2)` float64, x and y.
    """
    extent = np.array([size[1], size[0]], np.float64)
    linear, shift = matrices[:, :, :2], matrices[:, :, 2]
    meeting = np.clip(linear @ (extent / 2) + shift, 0, frame_px)
    inverse = np.linalg.inv(linear)
    anchors = np.einsum("nij,nj->ni", inverse, meeting - shift)
    return np.asarray(np.clip(np.round(anchors), 0, extent))


class WarpFaces:
    """The warp kernel for one kind of frame and one network input, in the current context.

    It makes `(n, 3, height, width)` crops in float32 or float16; with `black`, what lies outside
    the frame is black, as a face detector pads it, instead of the frame's border.
    """

    def __init__(
        self, module: Any, layout: FrameLayout, input: InputSpec,
        size: tuple[int, int] | None = None, half: bool = False, black: bool = False,
    ) -> None:
        self.module, self.layout, self.size = module, layout, size or (input.side, input.side)
        self.form = FORMATS[layout.pixels]
        border, output = "black" if black else "replicate", "half" if half else "float"
        self.function = module.get_function(f"warp_{self.form.variant}_{border}_{output}")
        self.function.prepare(ARGUMENTS)
        reverse = self.form.order != input.channels and bool(self.form.order)
        height, width = self.size
        self.constants = (width, height, int(reverse), *normalisation(input), *colour(layout))

    def launch(
        self, frame: int, faces: int, crops: int, max_faces: int, stream: Any, chroma: int = 0
    ) -> None:
        """Enqueue the crops of a frame; all addresses are in device memory.

        Args:
            frame: the frame's first row.
            faces: what `pack_faces` wrote, copied there.
            crops: room for `max_faces` crops.
            max_faces: the most that `faces` may count; fixed once a graph has captured the launch.
            stream: PyCUDA's, or None for the default stream.
            chroma: NV12's first UV row.

        Raises:
            ValueError: an address or the number of faces is none that the kernel takes.
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


def normalisation(input: InputSpec) -> tuple[float, ...]:
    """Return gain and bias of each plane, so that 0 to 255 becomes `(value / 255 - mean) / std`."""
    mean, std = np.array(input.mean, np.float64), np.array(input.std, np.float64)
    return (*(1 / (255 * std)).tolist(), *(-mean / std).tolist())


def colour(layout: FrameLayout) -> Colour:
    """Return what NV12's values mean; other formats read nothing of it."""
    if layout.pixels == "nv12":
        return colour_of(layout.colour, layout.full_range)
    return Colour(0, 0, 0, 0, 0, 0)


def load_module() -> Any:
    """Load the warp kernel into the current CUDA context, compiled for its GPU.

    Raises:
        PackageError: PyCUDA is not installed.
        KernelError: the kernel cannot be compiled here.
    """
    driver = require("pycuda.driver", "tensorrt")
    capability = driver.Context.get_device().compute_capability()
    return driver.module_from_buffer(kernel_cubin(capability, driver.get_driver_version()))
