"""The crop in numpy, sample by sample: slow, and what every other path is held to."""

from __future__ import annotations

import numpy as np

from feredge.runtime.faces import Array
from feredge.runtime.preprocess.geometry import checked_boxes, crop_matrices
from feredge.runtime.spec import CropSpec, InputSpec


def crop_faces(frame_bgr: Array, boxes_xyxy: Array, input: InputSpec, crop: CropSpec) -> Array:
    """Cut one square crop per face box and normalise it for the network.

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
    boxes = checked_boxes(boxes_xyxy, frame_bgr.shape)
    matrices, samples = crop_matrices(boxes, crop, input.side)
    crops = [
        warped(frame_bgr, matrix, int(k), input.side) for matrix, k in zip(matrices, samples)
    ]
    stacked = np.stack(crops) if crops else np.zeros((0, input.side, input.side, 3))
    if input.channels == "rgb":
        stacked = stacked[..., ::-1]
    normalised = (stacked / 255 - np.array(input.mean)) / np.array(input.std)
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), np.float32)


def warped(frame_bgr: Array, matrix: Array, samples: int, side_px: int) -> Array:
    """Return the `(side, side, 3)` float64 means of `samples` x `samples` bilinear samples."""
    positions = (np.arange(side_px * samples) + 0.5) / samples
    grid_x, grid_y = np.meshgrid(positions, positions)
    x = matrix[0, 0] * grid_x + matrix[0, 1] * grid_y + matrix[0, 2]
    y = matrix[1, 0] * grid_x + matrix[1, 1] * grid_y + matrix[1, 2]
    values = bilinear(frame_bgr, x, y)
    mean: Array = values.reshape(side_px, samples, side_px, samples, 3).mean(axis=(1, 3))
    return mean


def bilinear(frame_bgr: Array, x: Array, y: Array) -> Array:
    """Sample at positions in pixel edges; beyond the frame its border pixels go on."""
    height, width = frame_bgr.shape[:2]
    # Clamp the coordinate, then split it: clamping the index alone extrapolates at the border.
    x = np.clip(x - 0.5, 0, width - 1)
    y = np.clip(y - 0.5, 0, height - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    u, v = (x - x0)[..., None], (y - y0)[..., None]
    top = frame_bgr[y0, x0] * (1 - u) + frame_bgr[y0, x1] * u
    bottom = frame_bgr[y1, x0] * (1 - u) + frame_bgr[y1, x1] * u
    return np.asarray(top * (1 - v) + bottom * v)
