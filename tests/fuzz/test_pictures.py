"""Mutated pictures are read or refused in one line; nothing else happens."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.decode.header import picture_format
from feredge.runtime.sources.decode.read import PARSERS, decode_picture, parse_picture

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True,
                    suppress_health_check=[HealthCheck.too_slow])
MAX_PIXELS = 1_000_000  # a mutated header may claim any size; decoding one takes time


def saved(image, format_name, **options):
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def pictures():
    """Small pictures of every format and several kinds of pixels, animations included."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (33, 17)))
    frames = [rgb.rotate(90 * k) for k in range(1, 3)]
    for mode, format_name in (("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"),
                              ("P", "PNG"), ("LA", "PNG"), ("RGB", "WEBP"), ("RGBA", "WEBP"),
                              ("P", "GIF"), ("RGB", "BMP"), ("P", "BMP"), ("RGB", "PPM"),
                              ("1", "PPM"), ("RGBA", "TIFF"), ("1", "TIFF")):
        yield saved(rgb.convert(mode), format_name)
    yield saved(rgb, "JPEG", progressive=True)
    if features.check("avif"):
        yield saved(rgb, "AVIF")
    for format_name in ("PNG", "GIF", "WEBP"):
        yield saved(rgb, format_name, save_all=True, append_images=frames)
        yield saved(rgb.convert("L"), format_name, save_all=True,
                    append_images=[frame.convert("L") for frame in frames])


PICTURES = list(pictures())
COMMON = ("JPEG", "PNG", "WebP", "BMP", "PNM", "TIFF")


@st.composite
def mutations(draw):
    """A picture with some bytes overwritten, removed or repeated."""
    content = bytearray(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content) - 1))
        action = draw(st.sampled_from(["byte", "number", "cut", "remove", "repeat"]))
        size = draw(st.integers(1, 64))
        if action == "byte":
            content[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        elif action == "number":
            content[at : at + 4] = draw(st.binary(min_size=4, max_size=4))
        elif action == "cut":
            del content[max(at, 1):]
        elif action == "remove":
            del content[at : at + size]
            content = content or bytearray(1)
        else:
            content[at:at] = content[at : at + size]
    return bytes(content)


def is_read_or_refused(content):
    try:
        pixels = decode_picture("a", content, MAX_PIXELS)
    except SourceError as error:
        assert "\n" not in str(error) and str(error).startswith("a ")
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


@pytest.mark.parametrize("content", PICTURES)
def test_the_pictures_themselves_are_read(content):
    try:
        assert decode_picture("a", content).shape == (17, 33, 3)
    except SourceError as error:
        if "this cv2 has no decoder" not in str(error) or picture_format(content[:32]) in COMMON:
            raise
        pytest.skip(str(error))


@EXAMPLES
@given(mutations())
def test_a_mutated_picture_is_read_or_refused(content):
    is_read_or_refused(content)


@EXAMPLES
@given(st.sampled_from([content[:16] for content in PICTURES]), st.binary(max_size=200))
def test_anything_after_a_pictures_first_bytes_is_read_or_refused(start, rest):
    is_read_or_refused(start + rest)


@EXAMPLES
@given(st.sampled_from(sorted(PARSERS)), st.binary(max_size=300))
def test_a_parser_takes_any_bytes(format_name, content):
    try:
        picture = PARSERS[format_name](content)
    except SourceError:
        return
    assert picture.width > 0 and picture.height > 0 and 1 <= picture.orientation


@EXAMPLES
@given(st.binary(max_size=100))
def test_bytes_that_are_no_picture_are_refused(content):
    try:
        parse_picture(content)
    except SourceError as error:
        assert "\n" not in str(error)
