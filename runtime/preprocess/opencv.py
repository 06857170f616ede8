"""The crop with OpenCV: one warp onto a fine grid, then its mean over K x K."""

from __future__ import annotations

import cv2
import numpy as np

from feredge.runtime.preprocess.geometry import check_boxes, crop_matrices
from feredge.runtime.results import Array
from feredge.runtime.spec import CropSpec, InputSpec

MOST_VALUES = 6_000_000  # 2 Mpx: a larger face is averaged over so much that rounding is lost


def crop_faces(frame_bgr: Array, boxes_xyxy: Array, input: InputSpec, crop: CropSpec) -> Array:
    """Cut one square crop per face box and normalize it for the network.

    The same levels as the reference but where a sum falls between two of them, and one off there
    (OpenCV 5; OpenCV 4 rounds weights: up to 8).

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
    crops = np.empty((len(boxes), 3, input.side, input.side), np.float32)
    scale = 1 / (255 * np.array(input.std, np.float32))
    offset = np.array(input.mean, np.float32) / np.array(input.std, np.float32)
    order = (2, 1, 0) if input.channels == "rgb" else (0, 1, 2)
    for planes, matrix, k in zip(crops, matrices, samples):
        pixels = warp(frame_bgr, matrix, int(k), input.side)
        for plane, source, gain, bias in zip(planes, order, scale, offset):
            np.multiply(pixels[..., source], gain, out=plane)
            if bias:
                plane -= bias
    return crops


def warp(frame_bgr: Array, matrix: Array, samples: int, side_px: int) -> Array:
    """Return the `(side, side, 3)` pixels of one crop, in whole levels."""
    grid = side_px * samples
    # From the fine grid's pixel centers to the frame's pixel centers, as OpenCV counts them.
    to_frame = matrix / [samples, samples, 1]
    to_frame[:, 2] += to_frame[:, :2].sum(axis=1) / 2 - 0.5
    if samples > 1:
        frame_bgr, origin = surroundings(frame_bgr, matrix, side_px)
        to_frame[:, 2] -= origin
    fine = cv2.warpAffine(
        frame_bgr, to_frame, (grid, grid),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )
    if samples == 1:
        return fine
    fine = fine.astype(np.float32, copy=False)
    return np.rint(cv2.resize(fine, (side_px, side_px), interpolation=cv2.INTER_AREA))


def surroundings(frame_bgr: Array, matrix: Array, side_px: int) -> tuple[Array, Array]:
    """Return the part of a frame that a crop reads, and its corner's `(x, y)`.

    As float32, unless it is very large: OpenCV rounds what it warps to the type that it was given,
    and K x K samples would each be rounded.
    """
    corners = matrix[:, :2] @ (np.array([[0, 1, 0, 1], [0, 0, 1, 1]]) * side_px) + matrix[:, 2:]
    size = np.array(frame_bgr.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=1)).astype(np.int64) - 2, 0, size - 1)
    high = np.clip(np.ceil(corners.max(axis=1)).astype(np.int64) + 2, low + 1, size)
    part = frame_bgr[low[1] : high[1], low[0] : high[0]]
    return (part if part.size > MOST_VALUES else part.astype(np.float32)), low
