"""Annotated pictures: formats, and what cannot be written."""

import os

import cv2
import numpy as np
import pytest

from feredge.runtime.errors import OutputError
from feredge.runtime.outputs.annotated import open_annotated
from feredge.runtime.outputs.pictures import PictureFolder, write_picture
from feredge.runtime.results import Frame, FrameResult
from feredge.runtime.sources import open_source
from feredge.runtime.suffixes import PICTURES


@pytest.mark.parametrize("suffix", sorted(PICTURES))
def test_every_format_that_is_read_can_be_written(tmp_path, suffix):
    picture = np.full((20, 30, 3), (40, 90, 200), np.uint8)
    write_picture(tmp_path / f"a{suffix}", picture)
    got = cv2.imread(str(tmp_path / f"a{suffix}"))
    assert got.shape == picture.shape and os.listdir(tmp_path) == [f"a{suffix}"]


def test_a_picture_that_its_format_cannot_hold_is_reported_and_the_album_goes_on(tmp_path):
    lines = []
    folder = PictureFolder(tmp_path / "out", tmp_path / "album", lines.append)
    for name, width in (("wide.webp", 17000), ("b.jpg", 30)):
        picture = np.zeros((8, width, 3), np.uint8)
        source = str(tmp_path / "album" / "sub" / name)
        folder.write_annotated(FrameResult(Frame(0, picture, source)), picture)
    assert len(lines) == 1 and "17000x8 .webp" in lines[0]
    assert os.listdir(tmp_path / "out" / "sub") == ["b.jpg"]


def test_a_folder_that_leads_back_to_the_source_is_refused(tmp_path):
    (tmp_path / "album").mkdir()
    write_picture(tmp_path / "album" / "a.png", np.zeros((8, 8, 3), np.uint8))
    before = (tmp_path / "album" / "a.png").read_bytes()
    os.symlink("album", tmp_path / "out")
    folder = PictureFolder(tmp_path / "out", tmp_path / "album", print)
    with pytest.raises(OutputError, match="is the source itself"):
        picture = np.full((8, 8, 3), 9, np.uint8)
        folder.write_annotated(
            FrameResult(Frame(0, picture, str(tmp_path / "album" / "a.png"))), picture)
    assert (tmp_path / "album" / "a.png").read_bytes() == before


@pytest.mark.parametrize("name", ["x.mp4", "x.jpg"])
def test_a_folder_of_pictures_does_not_become_a_file(tmp_path, name):
    write_picture(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    with open_source(str(tmp_path)) as source, pytest.raises(OutputError, match="needs a folder"):
        open_annotated(str(tmp_path / name), source)
