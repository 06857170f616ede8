"""The faces of one batch as the warp kernel reads them: a header per frame, a record per face."""

from __future__ import annotations

import numpy as np

from feredge.runtime.gpu.frame_layout import FAR_PX, FrameLayout
from feredge.runtime.preprocess.geometry import MAX_SAMPLES
from feredge.runtime.results import Array

# The kernel's struct Faces and struct Face, in 4-byte words.
HEADER = np.dtype([("count", "i4"), ("first", "i4"), ("offset_bytes", "i4"), ("padding", "i4")])
FACE = np.dtype([
    ("matrix", "4f4"), ("offset", "2f4"), ("origin", "2i4"), ("anchor", "2i4"),
    ("samples", "i4"), ("inverse_samples", "f4"),
])


def table_bytes(frames: int, faces: int) -> int:
    """Return the size of a table."""
    return HEADER.itemsize * frames + FACE.itemsize * faces


class FaceTable:
    """Parameters of the warp kernel for a batch: faces of one frame or of several.

    Args:
        memory: `table_bytes(frames, faces)` uint8, often pinned.
        frames: the most frames of a batch; each has a header of its own.
        faces: the most faces of a batch.
    """

    def __init__(self, memory: Array, frames: int, faces: int) -> None:
        start = HEADER.itemsize * frames
        self.headers = memory[:start].view(np.int32).reshape(frames, 4)
        records = memory[start : start + FACE.itemsize * faces]
        self.floats = records.view(np.float32).reshape(faces, -1)
        self.integers = records.view(np.int32).reshape(faces, -1)
        self.start, self.frames, self.faces = start, 0, 0

    def clear(self) -> None:
        """Start a new batch."""
        self.frames = self.faces = 0

    def add_frame(
        self, matrices: Array, samples: Array, size: tuple[int, int], layout: FrameLayout
    ) -> None:
        """Append the faces of one frame.

        Args:
            matrices: `(n, 2, 3)` float64 from `crop_matrices`, or any that can be inverted.
            samples: `(n,)`, samples per pixel and axis.
            size: height and width of a crop.
            layout: of the frame.

        Raises:
            ValueError: more faces than the table holds, or a sample count out of its range.
        """
        first, count, capacity = self.faces, len(matrices), len(self.floats)
        if first + count > capacity:
            raise ValueError(f"{first + count} faces, expected at most {capacity}")
        if count and not (1 <= samples.min() and samples.max() <= MAX_SAMPLES):
            raise ValueError(f"samples are {samples.tolist()}, expected 1 to {MAX_SAMPLES}")
        offset = self.start + FACE.itemsize * first - HEADER.itemsize * self.frames
        self.headers[self.frames] = count, first, offset, 0
        write_faces(self.floats[first : first + count], self.integers[first : first + count],
                    matrices, samples, (size, layout.shape))
        self.frames, self.faces = self.frames + 1, first + count


def write_faces(
    floats: Array, integers: Array, matrices: Array, samples: Array,
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    """Write records, given as `(n, 12)` views of the same memory in both types.

    Args:
        floats: float32.
        integers: int32.
        matrices: `(n, 2, 3)` float64.
        samples: `(n,)`.
        sizes: height and width of a crop, and of the frame.
    """
    anchors = nearest_anchors(matrices, *sizes)
    linear, shift = matrices[:, :, :2], matrices[:, :, 2]
    centers = (linear * anchors[:, None]).sum(axis=2) + shift - 0.5
    # Even, for NV12's half-sized plane.
    origins = clamp(2 * np.floor(centers / 2), -FAR_PX, FAR_PX)
    floats[:, :4] = linear.reshape(-1, 4)
    floats[:, 4:6] = centers - origins
    integers[:, 6:8], integers[:, 8:10] = origins, anchors
    integers[:, 10], floats[:, 11] = samples, 1 / np.asarray(samples)


def nearest_anchors(matrices: Array, size: tuple[int, int], frame_size: tuple[int, int]) -> Array:
    """Return the whole position in each crop that is nearest to where crop and frame meet.

    float32 is exact enough near it, however far the rest of the crop reaches out of the frame.

    Args:
        matrices: `(n, 2, 3)` float64.
        size: height and width of a crop.
        frame_size: height and width of the frame.

    Returns:
        `(n, 2)` float64, x and y.
    """
    a, b, shift_x, c, d, shift_y = matrices.reshape(-1, 6).T
    height, width = size
    off_x = clamp((a * width + b * height) / 2 + shift_x, 0, frame_size[1]) - shift_x
    off_y = clamp((c * width + d * height) / 2 + shift_y, 0, frame_size[0]) - shift_y
    determinant = a * d - b * c
    anchors = np.empty((len(matrices), 2))
    anchors[:, 0] = (d * off_x - b * off_y) / determinant
    anchors[:, 1] = (a * off_y - c * off_x) / determinant
    return clamp(np.rint(anchors), 0, (width, height))


def clamp(values: Array, low: float, high: float | tuple[int, int]) -> Array:
    """Return values inside bounds; `np.clip` takes five times as long for a few of them."""
    inside: Array = np.minimum(np.maximum(values, low), high)
    return inside
