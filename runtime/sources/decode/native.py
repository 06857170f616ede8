"""The native decoders: OpenCV's, and Pillow's plug-in for HEIC."""

from __future__ import annotations

import io

import cv2
import numpy as np

from feredge.runtime.errors import PackageError, SourceError, require
from feredge.runtime.results import Array
from feredge.runtime.sources.decode.header import Picture

COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
REDUCED = {
    1: COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}


def decode(picture: Picture, reduction: int = 1) -> Array:
    """Decode a picture, without applying its orientation.

    Args:
        picture: see `Picture`.
        reduction: 1, 2, 4 or 8: the factor by which JPEGs are scaled down.

    Returns:
        `(h, w, 3)` uint8 BGR.

    Raises:
        SourceError: it cannot be decoded.
    """
    if picture.format == "HEIC":
        return decode_heic(picture.content)
    try:
        pixels = cv2.imdecode(np.frombuffer(picture.content, np.uint8), REDUCED[reduction])
    except (cv2.error, MemoryError) as error:
        raise SourceError(f"cannot be decoded: {getattr(error, 'err', 'no memory')}") from error
    if pixels is None:
        raise SourceError(f"is a {picture.format} picture that OpenCV cannot decode: it is "
                          "damaged, or this cv2 has no decoder for it")
    return pixels


def decode_heic(content: bytes) -> Array:
    """Decode a HEIC picture to `(h, w, 3)` uint8; the decoder applies its orientation.

    Raises:
        SourceError: it cannot be decoded, or the extra `heif` is not installed.
    """
    try:
        heif = require("pillow_heif", "heif")
    except PackageError as error:
        raise SourceError(f"is a HEIC picture: {error}") from error
    try:
        image = heif.open_heif(io.BytesIO(content), convert_hdr_to_8bit=True).to_pillow()
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    except Exception as error:  # pillow-heif documents no types
        raise SourceError(f"cannot be decoded: {error}") from error
