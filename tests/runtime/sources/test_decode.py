"""Pictures are checked by their headers before a native decoder sees them."""

import io
import os
import re
import signal
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, features

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.decode import worker
from feredge.runtime.sources.decode.header import Picture, picture_format
from feredge.runtime.sources.decode.native import decode
from feredge.runtime.sources.decode.read import decode_picture, parse_picture
from feredge.runtime.sources.pictures import read_picture

FORMATS = {
    "a.jpg": "JPEG", "a.png": "PNG", "a.webp": "WebP", "a.gif": "GIF", "a.bmp": "BMP",
    "a.ppm": "PNM", "a.tiff": "TIFF", "a.avif": "AVIF",
}
EXIF_OFFSETS = {order: struct.pack(f"{order}HIHHHI", 42, 8, 1, 0x0112, 3, 1) for order in "<>"}


@pytest.fixture(scope="module")
def rgb(astronaut):
    return Image.fromarray(cv2.cvtColor(cv2.resize(astronaut, (96, 64)), cv2.COLOR_BGR2RGB))


def content_of(image, format_name, **options):
    file = io.BytesIO()
    if format_name == "JPEG":
        options = {"quality": 97, "subsampling": 0} | options
    image.save(file, "PPM" if format_name == "PNM" else format_name, **options)
    return file.getvalue()


def skip_without_decoder(format_name):
    """Skip a test of a format that older versions of OpenCV or Pillow do not have."""
    line = re.search(rf"^ +{format_name}: +(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if format_name in ("GIF", "AVIF") and (line is None or line[1] == "NO"):
        pytest.skip(f"this cv2 has no decoder for {format_name}")
    if format_name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")


def exif(orientation, order="<"):
    return (b"II" if order == "<" else b"MM") + EXIF_OFFSETS[order] + struct.pack(
        f"{order}HHI", orientation, 0, 0)


def png_chunk(kind, payload):
    return (struct.pack(">I", len(payload)) + kind + payload
            + struct.pack(">I", zlib.crc32(kind + payload)))


def close(got, expected, most=8):
    return got.shape == expected.shape and np.abs(got.astype(int) - expected).mean() < most


@pytest.mark.parametrize("name, format_name", FORMATS.items())
def test_every_format_is_recognized_by_its_content_and_read(rgb, tmp_path, name, format_name):
    skip_without_decoder(format_name)
    content = content_of(rgb, format_name)
    assert picture_format(content[:32]) == format_name
    header = parse_picture(content)
    assert (header.width, header.height) == (96, 64)
    (tmp_path / "picture.dat").write_bytes(content)
    expected = np.asarray(rgb)[..., ::-1]
    assert close(read_picture(tmp_path / "picture.dat"), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "JPEG"])
def test_every_kind_of_pixel_is_read_as_bgr(rgb, mode, format_name):
    image = rgb.convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    try:
        content = content_of(image, format_name)
    except OSError:
        pytest.skip(f"Pillow writes no {mode} as {format_name}")
    expected = np.asarray((rgb.convert("L") if mode == "I;16" else image).convert("RGB"))
    assert close(decode_picture("a", content), expected[..., ::-1], 12)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "place", ["jpeg", "jpeg-xmp", "png", "webp", "webp-prefix", "webp-xmp", "tiff", "avif"])
def test_the_orientation_is_applied_wherever_it_stands(rgb, orientation, place):
    skip_without_decoder(place.upper())
    xmp = b'<xmpmeta xmlns="adobe:ns:meta/"><a tiff:Orientation="%d"/></xmpmeta>' % orientation
    content = {
        "jpeg": lambda: content_of(rgb, "JPEG", exif=b"Exif\0\0" + exif(orientation, ">")),
        "jpeg-xmp": lambda: content_of(rgb, "JPEG", xmp=xmp),
        "png": lambda: content_of(rgb, "PNG", exif=exif(orientation)),
        "webp": lambda: content_of(rgb, "WebP", exif=exif(orientation)),
        "webp-prefix": lambda: content_of(rgb, "WebP", exif=b"Exif\0\0" + exif(orientation)),
        "avif": lambda: content_of(rgb, "AVIF", exif=exif(orientation)),
        "tiff": lambda: content_of(rgb, "TIFF", tiffinfo={274: orientation}),
        "webp-xmp": lambda: content_of(rgb, "WebP", xmp=xmp),
    }[place]()
    if place == "webp-prefix" and b"EXIF" in content:
        at = content.index(b"EXIF") + 8
        if content[at : at + 6] != b"Exif\0\0":  # Pillow removes it
            size = int.from_bytes(content[at - 4 : at], "little") + 6
            body = content[12 : at - 4] + size.to_bytes(4, "little") + b"Exif\0\0" + content[at:]
            content = b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body
    transposed = Image.Transpose
    moves = {2: transposed.FLIP_LEFT_RIGHT, 3: transposed.ROTATE_180,
             4: transposed.FLIP_TOP_BOTTOM, 5: transposed.TRANSPOSE, 6: transposed.ROTATE_270,
             7: transposed.TRANSVERSE, 8: transposed.ROTATE_90}
    upright = rgb.transpose(moves[orientation]) if orientation > 1 else rgb
    assert close(decode_picture("a", content), np.asarray(upright)[..., ::-1])


@pytest.mark.parametrize("bits", [8, 16])
def test_the_colors_of_a_transparent_tiff_are_not_multiplied_by_alpha(astronaut, tmp_path, bits):
    tifffile = pytest.importorskip("tifffile")
    rgba = np.dstack([astronaut[..., ::-1], np.full(astronaut.shape[:2], 64, np.uint8)])
    stored = rgba if bits == 8 else rgba.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tiff", stored, photometric="rgb", extrasamples=["unassalpha"])
    assert np.abs(read_picture(tmp_path / "a.tiff").astype(int) - astronaut).max() <= 1


@pytest.mark.parametrize("format_name", ["PNG", "GIF", "WebP"])
def test_of_an_animation_the_first_picture_is_read(rgb, format_name):
    skip_without_decoder(format_name)
    second = Image.new("RGB", rgb.size, "white")
    content = content_of(rgb, format_name, save_all=True, append_images=[second], duration=100)
    assert close(decode_picture("a", content), np.asarray(rgb)[..., ::-1], 12)


def test_a_grey_animation_that_corrupts_memory_is_read_without_its_animation():
    pixels = zlib.compress((b"\0" + bytes([77] * 64)) * 64)
    control = struct.pack(">IIIIIHHBB", 0, 64, 64, 0, 0, 1, 10, 1, 0)
    second = struct.pack(">IIIIIHHBB", 1, 64, 64, 0, 0, 1, 10, 1, 0)
    content = b"\x89PNG\r\n\x1a\n" + b"".join([
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)),
        png_chunk(b"acTL", struct.pack(">II", 2, 0)), png_chunk(b"fcTL", control),
        png_chunk(b"IDAT", pixels), png_chunk(b"fcTL", second),
        png_chunk(b"fdAT", struct.pack(">I", 2) + pixels), png_chunk(b"IEND", b"")])
    kept = parse_picture(content).content
    assert not any(kind in kept for kind in (b"acTL", b"fcTL", b"fdAT"))
    assert (decode_picture("a", content) == 77).all()


def test_the_shared_animation_is_read(shared_file):
    path = shared_file("cases/18-apng-corrupts-memory/grey_dispose.png")
    assert read_picture(path).shape == (64, 64, 3)


@pytest.mark.parametrize("name", [
    "jpeg-65500.jpg", "png-32768x32767-1bit.png", "png-header-30000-16bit-rgba.png",
    "tiff-20000-g4.tiff"])
def test_hostile_pictures_are_refused_by_their_header(shared_file, name):
    with pytest.raises(SourceError, match=r"more than the limit|is damaged: .* bytes hold no"):
        read_picture(shared_file(f"cases/hostile/pictures/{name}"))


def enlarged(rgb, format_name):
    """A picture whose header claims 60000x50000 pixels."""
    content = bytearray(content_of(rgb, format_name))
    if format_name == "PNG":
        content[16:24] = struct.pack(">II", 60000, 50000)
    elif format_name == "JPEG":
        at = content.index(b"\xff\xc0")
        content[at + 5 : at + 9] = struct.pack(">HH", 50000, 60000)
    elif format_name == "GIF":
        content[6:10] = struct.pack("<HH", 60000, 50000)
    elif format_name == "BMP":
        content[18:26] = struct.pack("<ii", 60000, -50000)
    elif format_name == "PNM":
        return bytes(content).replace(b"96 64", b"60000 50000")
    elif format_name == "AVIF":
        at = content.index(b"ispe") + 8
        content[at : at + 8] = struct.pack(">II", 60000, 50000)
    return bytes(content)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "BMP", "PNM", "AVIF"])
def test_a_header_that_claims_too_many_pixels_is_refused_before_decoding(
    rgb, format_name, monkeypatch
):
    skip_without_decoder(format_name)
    monkeypatch.setattr(worker.DecoderProcess, "decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(SourceError, match=r"limit of 200,000,000|is damaged: \d+ bytes hold no"):
        decode_picture("a", enlarged(rgb, format_name))


def test_a_jpeg_above_the_limit_is_decoded_at_a_reduced_size(astronaut, caplog):
    content = cv2.imencode(".jpg", astronaut)[1].tobytes()
    assert decode_picture("a.jpg", content, 512 * 512).shape == (512, 512, 3)
    reduced = decode_picture("a.jpg", content, 512 * 512 - 1)
    assert reduced.shape == (256, 256, 3) and "1/2 of its size" in caplog.text
    assert close(reduced, cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA))
    with pytest.raises(SourceError, match="limit of 4,000"):
        decode_picture("a.jpg", content, 4_000)
    progressive = cv2.imencode(".jpg", astronaut, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    with pytest.raises(SourceError, match="more than the limit"):  # it needs memory for all of it
        decode_picture("a.jpg", progressive, 512 * 512 - 1)


class Killer:
    """Pickles as a call that ends the process which loads it."""

    def __init__(self, call, *arguments):
        self.reduced, self.width, self.height = (call, arguments), 1, 1

    def __reduce__(self):
        return self.reduced


def test_a_picture_that_kills_its_decoder_is_one_error_and_the_next_is_read(rgb):
    process = worker.DecoderProcess()
    good = parse_picture(content_of(rgb, "BMP"))
    assert process.decode(good).shape == (64, 96, 3)
    with pytest.raises(SourceError, match="its decoder ended with SIGABRT"):
        process.decode(Killer(os.abort))
    assert process.decode(good).shape == (64, 96, 3)
    process.close()
    assert process.process.poll() == -signal.SIGKILL


def test_a_picture_that_hangs_its_decoder_is_one_error(rgb, monkeypatch):
    process = worker.DecoderProcess()
    good = parse_picture(content_of(rgb, "BMP"))
    process.decode(good)
    monkeypatch.setattr(worker, "DECODING_S", 0.2)
    with pytest.raises(SourceError, match="takes too long or too much memory"):
        process.decode(Killer(signal.pause))
    monkeypatch.undo()
    assert process.decode(good).shape == (64, 96, 3)
    process.close()


def test_a_heic_picture_is_read_or_named(rgb, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(rgb).save(file)
    content = file.getvalue()
    assert picture_format(content[:32]) == "HEIC"
    assert close(decode_picture("a.heic", content), np.asarray(rgb)[..., ::-1], 12)


def test_a_heic_picture_without_its_decoder_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(SourceError, match=r"is a HEIC picture: .*pip install 'feredge\[heif\]'"):
        decode(Picture("HEIC", 1, 1, b""))


@pytest.mark.parametrize("content, said", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "run git lfs pull"),
    (b"<!DOCTYPE html><title>Quota exceeded</title>", "is a web page"),
    (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL picture, which cannot be read"),
], ids=["LFS", "HTML", "JPEG XL"])
def test_what_is_no_picture_is_named(content, said):
    with pytest.raises(SourceError, match=said):
        decode_picture("a", content)
