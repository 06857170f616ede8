"""From a face box to the 2x3 matrix and sample count that define its crop, in float64."""

from __future__ import annotations

import numpy as np

from feredge.runtime.errors import BoxError
from feredge.runtime.faces import with_roll
from feredge.runtime.results import Array
from feredge.runtime.spec import CropSpec

MAX_SAMPLES = 8  # a pixel of the crop is the mean of at most 8 x 8 bilinear samples


def check_boxes(boxes_xyxy: Array, frame_shape: tuple[int, ...]) -> Array:
    """Return the boxes as `(n, 5)` float64: `x0, y0, x1, y1` and the roll, see `with_roll`.

    Raises:
        BoxError: a box is not finite, has no area, or lies wholly outside the frame.
    """
    boxes = with_roll(boxes_xyxy)
    height, width = frame_shape[:2]
    x0, y0, x1, y1 = boxes[:, :4].T
    # A comparison with NaN is false; the sum is not finite where a box is not.
    good = (x1 > x0) & (y1 > y0) & (x1 > 0) & (y1 > 0) & (x0 < width) & (y0 < height)
    if good.all() and np.isfinite(boxes.sum()):
        return boxes
    for wrong, what in (
        (~np.isfinite(boxes).all(axis=1), "is not finite"),
        ((x1 <= x0) | (y1 <= y0), "has no area"),
        ((x1 <= 0) | (y1 <= 0) | (x0 >= width) | (y0 >= height),
         f"lies outside the {width}x{height} frame"),
    ):
        if wrong.any():
            k = int(wrong.argmax())
            raise BoxError(f"box {k}, {boxes[k, :4].tolist()}, {what}; expected x0 < x1, y0 < y1 "
                           "in px")
    return boxes


def crop_matrices(
    boxes_xyxy: Array, crop: CropSpec, side_px: int
) -> tuple[Array, Array]:
    """Return where each crop lies in the frame, and how finely it is sampled.

    Args:
        boxes_xyxy: `(n, 4)` or with the roll `(n, 5)`, pixel edges, checked.
        crop: how a box becomes a square; its `align` decides whether the roll counts.
        side_px: side of the crop.

    Returns:
        `(n, 2, 3)` float64 matrices that take a position in the crop (pixel edges, 0 to side) to
        one in the frame, and `(n,)` int64, the samples per pixel and axis.
    """
    x0, y0, x1, y1, roll = with_roll(boxes_xyxy).T
    sides = np.maximum(x1 - x0, y1 - y0) * crop.scale
    step = sides / side_px
    matrices = np.zeros((len(sides), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = step
    matrices[:, 0, 2] = (x0 + x1 - sides) / 2
    matrices[:, 1, 2] = (y0 + y1 - sides) / 2 + crop.shift_y * sides
    if crop.align == "roll" and roll.any():
        centers = np.stack([x0 + x1, y0 + y1], axis=1) / 2
        matrices = turn(matrices, centers, roll)
    samples = np.clip(np.ceil(step - 1e-6), 1, MAX_SAMPLES if crop.antialias else 1)
    return matrices, samples.astype(np.int64)


def turn(matrices: Array, centers: Array, roll: Array) -> Array:
    """Return matrices turned about points of the frame, `(n, 2, 3)` float64.

    Args:
        matrices: `(n, 2, 3)`.
        centers: `(n, 2)`, px.
        roll: `(n,)` radians, from x to y.
    """
    cos, sin = np.cos(roll), np.sin(roll)
    rotations = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
    moved = matrices.copy()
    moved[:, :, 2] -= centers
    turned: Array = rotations @ moved
    turned[:, :, 2] += centers
    return turned


def scaled_frame(shape: tuple[int, ...], inner_px: tuple[int, int]) -> tuple[Array, Array]:
    """Return the matrix and sample count that scale a frame, anchored top left, for a detector.

    Args:
        shape: of the frame, height first.
        inner_px: width and height that the frame is scaled to.

    Returns:
        `(1, 2, 3)` float64 and `(1,)` int64, as `crop_matrices` returns them.
    """
    step = np.array([shape[1] / inner_px[0], shape[0] / inner_px[1]])
    matrix = np.zeros((1, 2, 3))
    matrix[0, :, :2] = np.diag(step)
    return matrix, np.array([min(scaled_samples(step), MAX_SAMPLES)], np.int64)


def scaled_samples(step: Array) -> int:
    """Return the samples per pixel and axis for a `(2,)` step along x and y, in px of the frame.

    Plain interpolation down to a half, as on the CPU. Each sample of an even step lies where four
    pixels meet and is their mean, so that half as many samples an axis give the exact area mean.
    """
    largest = float(step.max())
    if largest <= 2:
        return 1
    if step[0] == step[1] and largest % 2 == 0:
        return int(largest) // 2
    return int(np.ceil(largest - 1e-6))


def whole_picture(shape: tuple[int, ...]) -> tuple[Array, CropSpec]:
    """Return the box, `(1, 4)` float64, and the crop that take a whole picture as a face crop."""
    height, width = shape[:2]
    return np.array([[0, 0, width, height]], np.float64), CropSpec()
