"""How a frame lies in device memory, in the formats that the warp kernel reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feredge.runtime.gpu.color import LUMA_WEIGHTS
from feredge.runtime.results import Array

FAR_PX = 2**23  # integers up to here are exact in float32, in which the kernel clamps
HD_ROWS = 720  # video with fewer rows is BT.601 by convention, other video BT.709


@dataclass(frozen=True)
class PixelFormat:
    """How the kernel reads a format: its variant, channel order, bytes per pixel, alignment."""

    variant: str
    order: str
    bytes_per_pixel: int
    alignment: int = 1


FORMATS = {
    "bgr": PixelFormat("interleaved3", "bgr", 3),
    "rgb": PixelFormat("interleaved3", "rgb", 3),
    "bgra": PixelFormat("interleaved4", "bgr", 4, alignment=4),
    "gray": PixelFormat("gray", "", 1),
    "nv12": PixelFormat("nv12", "rgb", 1),
}


@dataclass(frozen=True)
class FrameLayout:
    """Format and size of a frame in px, and the bytes from one row to the next.

    `pixels` is bgr, bgra, rgb, gray or nv12. NV12 has its UV rows `chroma_pitch` bytes apart;
    `color` (bt601 or bt709) and `full_range` define the meaning of its values.
    """

    pixels: str
    width: int
    height: int
    pitch: int
    chroma_pitch: int = 0
    color: str = "bt601"
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
            if self.color not in LUMA_WEIGHTS:
                raise ValueError(f"color is {self.color!r}, expected {' or '.join(LUMA_WEIGHTS)}")

    @property
    def shape(self) -> tuple[int, int]:
        """Return height and width in px."""
        return self.height, self.width


def layout_of(frame: Array) -> FrameLayout:
    """Return the layout of a contiguous frame.

    Args:
        frame: uint8; `(h, w, 3)` BGR, `(h, w, 4)` BGRx, or `(h * 3 / 2, w)` NV12 of video range
            with even sides.

    Raises:
        ValueError: another shape or dtype.
    """
    if frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] in (3, 4):
        height, width, channels = frame.shape
        return FrameLayout("bgr" if channels == 3 else "bgra", width, height, channels * width)
    if frame.dtype == np.uint8 and frame.ndim == 2 and is_nv12_shape(frame.shape):
        height, width = frame.shape[0] * 2 // 3, frame.shape[1]
        color = "bt601" if height < HD_ROWS else "bt709"
        return FrameLayout("nv12", width, height, width, width, color)
    raise ValueError(f"a frame is (h, w, 3) uint8 in BGR order, (h, w, 4) BGRx or (h * 3 / 2, w) "
                     f"NV12, got {frame.shape} {frame.dtype}")


def bgr_of(frame: Array) -> Array:
    """Return a frame as `(h, w, 3)` BGR, as a CPU needs it; BGRx and NV12 are converted.

    Args:
        frame: uint8, in a shape that `layout_of` accepts.
    """
    if frame.ndim == 2:
        import cv2

        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12), np.uint8)
    return frame[..., :3]


def is_nv12_shape(shape: tuple[int, ...]) -> bool:
    """Return whether an array of this shape can hold an NV12 frame with even sides."""
    return shape[0] % 3 == 0 and shape[0] > 0 and shape[1] % 2 == 0 and shape[1] > 0


def check_pitch(name: str, pitch: int, row_bytes: int, alignment: int) -> None:
    """Check that a pitch holds a row and suits the kernel's wide reads.

    Raises:
        ValueError: it does not.
    """
    if pitch < row_bytes or pitch % alignment:
        raise ValueError(f"{name} is {pitch}, expected at least {row_bytes} bytes and a multiple "
                         f"of {alignment}")
