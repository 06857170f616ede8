from pathlib import Path

import cv2
import numpy as np
import pytest

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.decode.read import parse_picture
from feredge.runtime.sources.pictures import find_pictures, read_picture


def is_truncated(content):
    try:
        return parse_picture(content) is None
    except SourceError as error:
        return "is truncated" in str(error)


def encoded(picture, suffix):
    return cv2.imencode(suffix, picture)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tiff"])
def test_a_picture_is_read_as_bgr(tmp_path, astronaut, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(astronaut, suffix))
    picture = read_picture(path)
    assert picture.shape == astronaut.shape and picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - astronaut).mean() < 6


def test_16_bit_grey_and_alpha_pictures_are_read_as_the_8_bit_colour_one(tmp_path, astronaut):
    grey = cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY)
    opaque = np.dstack([astronaut, np.full(astronaut.shape[:2], 128, np.uint8)])
    expected_grey = np.repeat(grey[..., None], 3, axis=2)
    for name, picture, expected in (
        ("deep", astronaut.astype(np.uint16) * 257, astronaut),
        ("grey", grey, expected_grey),
        ("deep_grey", grey.astype(np.uint16) * 257, expected_grey),
        ("alpha", opaque, astronaut),
    ):
        path = tmp_path / f"{name}.png"
        path.write_bytes(encoded(picture, ".png"))
        assert np.abs(read_picture(path).astype(int) - expected).max() <= 1, name


def test_a_damaged_picture_says_what_is_wrong(tmp_path, astronaut):
    jpeg, png = encoded(astronaut, ".jpg"), encoded(astronaut, ".png")
    cases = {
        "empty.jpg": (b"", "is empty"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "is truncated"),
        "end.jpg": (jpeg[:-2], "is truncated"),
        "head.jpg": (jpeg[:3], "is truncated"),
        "cut.png": (png[: len(png) // 2], "is truncated"),
        "text.png": (b"not a picture at all", "not a picture"),
        "zero.jpg": (bytes(1000), "not a picture"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=said):
            read_picture(tmp_path / name)
    with pytest.raises(SourceError, match="cannot be read"):
        read_picture(tmp_path / "missing.jpg")


def test_a_jpeg_with_a_thumbnail_is_truncated_only_if_its_own_end_is_missing(astronaut):
    jpeg = encoded(astronaut, ".jpg")
    thumbnail = encoded(cv2.resize(astronaut, (64, 64)), ".jpg")
    size = (len(thumbnail) + 2).to_bytes(2, "big")
    with_thumbnail = jpeg[:2] + b"\xff\xe1" + size + thumbnail + jpeg[2:]
    assert not is_truncated(with_thumbnail)
    assert not is_truncated(with_thumbnail + b"trailing bytes of a motion photo \xff\xda")
    assert is_truncated(with_thumbnail[: len(with_thumbnail) - 100])


def test_every_real_photo_is_complete(photos):
    for path in find_pictures(photos):
        assert not is_truncated(path.read_bytes()), path


def test_pictures_are_found_below_a_folder_in_order(tmp_path):
    for name in ("b.JPG", "a/c.png", "a/.hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert find_pictures(tmp_path) == [tmp_path / "a/c.png", tmp_path / "b.JPG"]
    assert find_pictures(Path(tmp_path / "a/c.png")) == []
