"""The crop in numpy, sample by sample: slow, and the reference of every other path."""

from __future__ import annotations

import numpy as np

from feredge.runtime.gpu.color import Color
from feredge.runtime.preprocess.geometry import check_boxes, crop_matrices
from feredge.runtime.results import Array
from feredge.runtime.spec import CropSpec, InputSpec


def crop_faces(frame_bgr: Array, boxes_xyxy: Array, input: InputSpec, crop: CropSpec) -> Array:
    """Cut one square crop per face box, in whole levels, and normalize it for the network.

    Args:
        frame_bgr: `(h, w, 3)` uint8.
        boxes_xyxy: `(n, 4)`, pixel edges; may reach outside the frame.
        input: side, channel order, mean and std.
        crop: how a box becomes a square.

    Returns:
        `(n, 3, side, side)` float32.

    Raises:
        BoxError: a box is not finite, has no area, or lies wholly outside the frame.
    """
    boxes = check_boxes(boxes_xyxy, frame_bgr.shape)
    matrices, samples = crop_matrices(boxes, crop, input.side)
    crops = [
        warp(frame_bgr, matrix, int(k), input.side) for matrix, k in zip(matrices, samples)
    ]
    stacked = np.stack(crops) if crops else np.zeros((0, input.side, input.side, 3))
    if input.channels == "rgb":
        stacked = stacked[..., ::-1]
    # Networks learn from 8-bit pictures: a crop is one, and saved as one it gives the same result.
    normalized = (np.rint(stacked) / 255 - np.array(input.mean)) / np.array(input.std)
    return np.ascontiguousarray(normalized.transpose(0, 3, 1, 2), np.float32)


def warp(
    frame: Array, matrix: Array, samples: int, size: int | tuple[int, int], black: bool = False
) -> Array:
    """Return the means of `samples` x `samples` bilinear samples a pixel.

    Args:
        frame: `(h, w, c)`, or `(h, w)` for one channel.
        matrix: `(2, 3)`, from a position in the result to one in the frame, pixel edges.
        samples: samples per pixel and axis.
        size: side of the result in px, or its height and width.
        black: a sample outside the frame is 0, instead of the frame's border.

    Returns:
        `(height, width, c)` or `(height, width)` float64.
    """
    x, y = sample_positions(matrix, samples, size)
    values = bilinear(frame, x, y)
    if black:
        values[is_outside(frame, x, y)] = 0
    return means(values, samples)


def warp_nv12(
    planes: tuple[Array, Array], matrix: Array, samples: int, size: int | tuple[int, int],
    color: Color, black: bool = False,
) -> Array:
    """Return the pixels of an NV12 frame: Y and UV are sampled apart, then become colors.

    Args:
        planes: Y, `(h, w)` uint8, and UV, `(ceil(h / 2), ceil(w / 2), 2)` uint8, each U and V in
            the middle of two by two pixels of Y.
        matrix: as in `warp`.
        samples: as in `warp`.
        size: as in `warp`.
        color: the conversion of Y, U and V.
        black: a sample outside the frame is black, instead of the frame's border.

    Returns:
        `(height, width, 3)` float64, RGB, 0 to 255.
    """
    x, y = sample_positions(matrix, samples, size)
    luma, chroma = planes
    # Counted from black, so that samples outside are 0 in both.
    values_of = bilinear(luma - color.black, x, y), bilinear(chroma - 128.0, x / 2, y / 2)
    if black:
        for values in values_of:
            values[is_outside(luma, x, y)] = 0
    gray, uv = (means(values, samples) for values in values_of)
    u, v = uv[..., 0], uv[..., 1]
    green = color.u_to_green * u + color.v_to_green * v
    tints = np.stack([color.v_to_red * v, green, color.u_to_blue * u], axis=-1)
    return np.clip(color.luma * gray[..., None] + tints, 0, 255)


def sample_positions(
    matrix: Array, samples: int, size: int | tuple[int, int]
) -> tuple[Array, Array]:
    """Return x and y of every sample in the frame, `(height * samples, width * samples)` each."""
    height, width = (size, size) if isinstance(size, int) else size
    across, down = ((np.arange(n * samples) + 0.5) / samples for n in (width, height))
    grid_x, grid_y = np.meshgrid(across, down)
    x = matrix[0, 0] * grid_x + matrix[0, 1] * grid_y + matrix[0, 2]
    y = matrix[1, 0] * grid_x + matrix[1, 1] * grid_y + matrix[1, 2]
    return x, y


def means(values: Array, samples: int) -> Array:
    """Return the mean of every `samples` x `samples` tile of `(h, w, ...)` values."""
    height, width = (n // samples for n in values.shape[:2])
    tiles = values.reshape(height, samples, width, samples, *values.shape[2:])
    return np.asarray(tiles.mean(axis=(1, 3)))


def is_outside(frame: Array, x: Array, y: Array) -> Array:
    """Return which positions, `(n, m)` in pixel edges, lie outside a frame, `(h, w, ...)`."""
    height, width = frame.shape[:2]
    return np.asarray((x < 0) | (y < 0) | (x >= width) | (y >= height))


def bilinear(frame: Array, x: Array, y: Array) -> Array:
    """Sample `(h, w, ...)` at positions `(n, m)` in pixel edges; the border continues outside."""
    height, width = frame.shape[:2]
    # Clamp the coordinate, then split it: clamping the index alone extrapolates at the border.
    x = np.clip(x - 0.5, 0, width - 1)
    y = np.clip(y - 0.5, 0, height - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    channels = (1,) * (frame.ndim - 2)
    u, v = (x - x0).reshape(*x.shape, *channels), (y - y0).reshape(*y.shape, *channels)
    top = frame[y0, x0] * (1 - u) + frame[y0, x1] * u
    bottom = frame[y1, x0] * (1 - u) + frame[y1, x1] * u
    return np.asarray(top * (1 - v) + bottom * v)
