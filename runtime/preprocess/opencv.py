"""The crop with OpenCV: one warp onto a fine grid, then its mean over K x K."""

from __future__ import annotations

import cv2
import numpy as np

from feredge.runtime.faces import Array
from feredge.runtime.preprocess.geometry import checked_boxes, crop_matrices
from feredge.runtime.spec import CropSpec, InputSpec


def crop_faces(frame_bgr: Array, boxes_xyxy: Array, input: InputSpec, crop: CropSpec) -> Array:
    """Cut one square crop per face box and normalise it for the network.

    The same sum as the reference, within 1/255 (OpenCV 5; OpenCV 4 rounds weights: 8/255).

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
    crops = np.empty((len(boxes), 3, input.side, input.side), np.float32)
    scale = 1 / (255 * np.array(input.std, np.float32))
    offset = np.array(input.mean, np.float32) / np.array(input.std, np.float32)
    order = (2, 1, 0) if input.channels == "rgb" else (0, 1, 2)
    for planes, matrix, k in zip(crops, matrices, samples):
        pixels = warped(frame_bgr, matrix, int(k), input.side)
        for plane, source, gain, bias in zip(planes, order, scale, offset):
            np.multiply(pixels[..., source], gain, out=plane)
            if bias:
                plane -= bias
    return crops


def warped(frame_bgr: Array, matrix: Array, samples: int, side_px: int) -> Array:
    """Return the `(side, side, 3)` pixels of one crop, uint8 or float32."""
    grid = side_px * samples
    # From the fine grid's pixel centres to the frame's pixel centres, as OpenCV counts them.
    to_frame = matrix / [samples, samples, 1]
    to_frame[:, 2] += to_frame[:, :2].sum(axis=1) / 2 - 0.5
    fine = cv2.warpAffine(
        frame_bgr, to_frame, (grid, grid),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )
    if samples == 1:
        return fine
    # In float32: a second rounding to uint8 would use up the tolerance.
    return cv2.resize(fine.astype(np.float32), (side_px, side_px), interpolation=cv2.INTER_AREA)
