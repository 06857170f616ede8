"""What a path is decides how it is opened: by content first, then by suffix."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from feredge.runtime.environment import child_environment
from feredge.runtime.errors import SourceError, UsageError
from feredge.runtime.sources import SourceOptions, frames_of, open_source, open_sources
from feredge.runtime.sources.pictures import find_pictures

READ = ("from feredge.runtime.sources import frames_of, open_source; import sys;"
        "print([f.frame_bgr.shape for f in frames_of(open_source(sys.argv[1]))])")


@pytest.fixture
def picture(astronaut, tmp_path):
    """Write a small picture."""
    small = cv2.resize(astronaut, (96, 64))

    def write(name, suffix=".jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(suffix, small)[1].tobytes())
        return path

    return write


def sources_of(source):
    return [Path(frame.source).name for frame in frames_of(source)]


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.mp4", "a", "a.JPG.download"])
def test_a_picture_of_any_name_is_a_picture(picture, name):
    source = open_source(str(picture(name)))
    assert not source.is_ordered and sources_of(source) == [name]


def test_a_gif_is_a_picture_alone_and_in_a_folder(astronaut, tmp_path):
    image = Image.fromarray(cv2.resize(astronaut, (64, 64)))
    image.save(tmp_path / "a.gif", save_all=True, append_images=[image.rotate(90)])
    if not cv2.haveImageReader(str(tmp_path / "a.gif")):
        pytest.skip("this cv2 has no decoder for GIF")
    for where in (tmp_path / "a.gif", tmp_path):
        assert sources_of(open_source(str(where))) == ["a.gif"]


@pytest.mark.parametrize("name", ["10:30:00.mp4", "clip:1.mp4", "2026-01-26T20:57:04Z.mp4",
                                  "a%03d.mp4", "file.jpg", os.fsdecode(b"caf\xe9.mp4")])
def test_a_video_of_any_name_is_a_video(write_clip, astronaut, tmp_path, monkeypatch, name):
    os.rename(write_clip([astronaut] * 3), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    source = open_source(name)
    assert source.is_ordered and [frame.source for frame in frames_of(source)] == [name] * 3


def test_hidden_folders_and_files_are_not_searched(picture, tmp_path):
    for name in (".ipynb_checkpoints/a.jpg", "b/.c.jpg", "b/d.jpg", "e.jpg", "b/.git/f.jpg"):
        picture(name)
    assert find_pictures(tmp_path) == [tmp_path / "b/d.jpg", tmp_path / "e.jpg"]
    assert find_pictures(tmp_path / ".ipynb_checkpoints") != []


def test_a_folder_that_links_to_itself_is_listed_once(picture, tmp_path):
    picture("a/b.jpg")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert find_pictures(tmp_path) == [tmp_path / "a/b.jpg"]


def test_pictures_without_a_pictures_suffix_are_found_and_other_files_are_not(picture, tmp_path):
    picture("a.dat")
    (tmp_path / "notes.txt").write_text("hello")
    assert [path.name for path in find_pictures(tmp_path)] == ["a.dat"]


def test_a_number_hints_at_the_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="source 0 does not exist; for a camera pass --camera 0"):
        open_source("0")


@pytest.mark.parametrize("number", [-1, -100, 100, 2**31, 10**30])
def test_a_camera_number_that_no_camera_has_never_reaches_native_code(number):
    with pytest.raises(SourceError, match="expected a number from 0 to 99"):
        open_source(number)


@pytest.mark.parametrize("where, said", [
    ("a" * 5000, "File name too long"), ("a\0b", "null"), ("/dev/null", "not a camera"),
], ids=["long", "NUL", "device"])
def test_an_impossible_path_is_one_line(where, said):
    with pytest.raises(SourceError, match=said):
        open_source(where)


def test_a_video_device_is_a_camera_that_is_tried_again(tmp_path):
    try:
        os.mknod(tmp_path / "video0", 0o600 | 0o020000, os.makedev(81, 250))
    except PermissionError:
        pytest.skip("only root makes device files")
    with pytest.raises(SourceError, match="video0 is not there or in use"):
        open_source(str(tmp_path / "video0"))
    source = open_source(str(tmp_path / "video0"), SourceOptions(retry_s=60))
    assert source.is_live and source.health()[0].state == "connecting"
    source.close()


def content_for_pipe(kind, astronaut, tmp_path):
    small = cv2.resize(astronaut, (96, 64))
    if kind == "picture":
        return cv2.imencode(".jpg", small)[1].tobytes()
    writer = cv2.VideoWriter(str(tmp_path / "a.mkv"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (96, 64))
    for _ in range(20):
        writer.write(small)
    writer.release()
    return (tmp_path / "a.mkv").read_bytes()


@pytest.mark.parametrize("kind, count", [("picture", 1), ("video", 20)])
def test_a_named_pipe_is_read(astronaut, tmp_path, kind, count):
    content = content_for_pipe(kind, astronaut, tmp_path)
    os.mkfifo(tmp_path / "pipe.ts")
    writer = threading.Thread(target=(tmp_path / "pipe.ts").write_bytes, args=(content,))
    writer.start()
    source = open_source(str(tmp_path / "pipe.ts"))
    frames = list(frames_of(source))
    writer.join()
    assert len(frames) == count and frames[0].frame_bgr.shape == (64, 96, 3)
    assert source.is_ordered == (kind == "video") and not source.is_live
    source.close()


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi"])
def test_a_piped_video_keeps_its_rate_and_its_times(astronaut, tmp_path, suffix):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / f"clip.{suffix}"), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(24):
            frame = av.VideoFrame.from_ndarray(cv2.resize(astronaut, (96, 64)), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    code = ("from feredge.runtime.sources import frames_of, open_source\n"
            "source = open_source('-')\nframes = list(frames_of(source))\n"
            "print(len(frames), source.parts[0].fps, frames[-1].time_s)\nsource.close()")
    done = subprocess.run([sys.executable, "-c", code], env=child_environment(), check=True,
                          input=(tmp_path / f"clip.{suffix}").read_bytes(), stdout=subprocess.PIPE)
    count, fps, last_s = map(float, done.stdout.split())
    assert count == 24 and fps == pytest.approx(12, rel=0.01)
    assert last_s == pytest.approx(23 / 12, abs=0.02)


@pytest.mark.parametrize("where", ["-", "/dev/stdin"])
@pytest.mark.parametrize("through", ["pipe", "file"])
@pytest.mark.parametrize("kind, count", [("picture", 1), ("video", 20)])
def test_standard_input_is_read(astronaut, tmp_path, where, through, kind, count):
    content = content_for_pipe(kind, astronaut, tmp_path)
    (tmp_path / "content").write_bytes(content)
    with (tmp_path / "content").open("rb") as file:
        given = {"input": content} if through == "pipe" else {"stdin": file}
        done = subprocess.run([sys.executable, "-c", READ, where], env=child_environment(),
                              stdout=subprocess.PIPE, check=True, **given)
    assert done.stdout.decode().count("(64, 96, 3)") == count


def test_standard_input_that_delivers_nothing_is_one_line():
    done = subprocess.run([sys.executable, "-c", READ, "-"], env=child_environment(), input=b"",
                          capture_output=True)
    assert b"SourceError: stdin is empty" in done.stderr


def test_several_pictures_and_patterns_are_one_source(picture, tmp_path, monkeypatch):
    names = ["a/1.jpg", "a/2.jpg", "b/3.png", "c/d/4.jpg", "c/[5].jpg"]
    for name in names:
        picture(name, ".png" if name.endswith("png") else ".jpg")
    monkeypatch.chdir(tmp_path)
    source = open_sources(["a/2.jpg", "b/3.png", "c"])
    assert [frame.source for frame in frames_of(source)] == [
        "a/2.jpg", "b/3.png", "c/[5].jpg", "c/d/4.jpg"]
    assert source.name == "." and not source.is_ordered
    assert sources_of(open_sources(["*/*.jpg"])) == ["1.jpg", "2.jpg", "[5].jpg"]
    assert sources_of(open_sources(["**/4.*"])) == ["4.jpg"]
    assert sources_of(open_sources(["c/[5].jpg"])) == ["[5].jpg"]
    assert open_sources([str(tmp_path / "a/1.jpg"), "a/2.jpg"]).name == str(tmp_path / "a")
    with pytest.raises(SourceError, match="no file matches"):
        open_sources(["*.bmp"])
    with pytest.raises(UsageError, match="given twice"):
        open_sources(["a/1.jpg", "a/*.jpg"])


def test_pictures_do_not_go_with_videos(picture, write_clip, astronaut):
    with pytest.raises(UsageError, match="put pictures into one folder"):
        open_sources([str(picture("a.jpg")), str(write_clip([astronaut] * 2))])


@pytest.mark.parametrize("name", ["a.jpg", "a.mp4"])
@pytest.mark.parametrize("content, said", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    (b"\n<!doctype HTML>", "is a web page"), (b"", "is empty")], ids=["LFS", "HTML", "empty"])
def test_a_placeholder_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=said):
        open_source(str(tmp_path / name))


def test_the_shared_jfif_is_upright_alone_and_in_its_folder(shared_file):
    folder = shared_file("cases/16-jfif-is-a-video")
    expected = cv2.imread(str(folder / "same.jpg"))
    assert expected is not None
    for where in (folder / "exif6.jfif", folder / "folder"):
        frames = {Path(frame.source).name: frame for frame in frames_of(open_source(str(where)))}
        np.testing.assert_array_equal(frames["exif6.jfif"].frame_bgr, expected)


def test_frames_that_are_too_large_are_refused(write_clip, astronaut):
    clip = str(write_clip([astronaut] * 2))
    with pytest.raises(SourceError, match="frames of 512x512 pixels, more than the limit"):
        open_source(clip, SourceOptions(max_pixels=512 * 512 - 1))


def test_a_large_folder_streams_its_listing(tmp_path, monkeypatch, astronaut):
    monkeypatch.setattr("feredge.runtime.sources.pictures.COUNTED", 5)
    buffer = io.BytesIO(cv2.imencode(".jpg", cv2.resize(astronaut, (16, 16)))[1].tobytes())
    for k in range(12):
        (tmp_path / f"{k:02}.jpg").write_bytes(buffer.getvalue())
    source = open_source(str(tmp_path))
    assert source.expected_frames == 0
    assert sources_of(source) == [f"{k:02}.jpg" for k in range(12)]


@pytest.mark.slow
def test_the_memory_for_a_folder_of_100_000_pictures_is_flat(tmp_path, astronaut):
    content = cv2.imencode(".jpg", cv2.resize(astronaut, (16, 16)))[1].tobytes()
    for k in range(100_000):
        if k % 20_000 == 0:  # a file system limits the links to one file
            (tmp_path / f"{k:06}.jpg").write_bytes(content)
        else:
            os.link(tmp_path / f"{k - k % 20_000:06}.jpg", tmp_path / f"{k:06}.jpg")
    # Not getrusage, whose peak is at first that of the process that started this one.
    code = ("from feredge.runtime.sources import frames_of, open_source; import re, sys;"
            "print(sum(1 for _ in frames_of(open_source(sys.argv[1]))),"
            "re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=child_environment(),
                          capture_output=True, text=True, check=True)
    count, resident_kb = map(int, done.stdout.split())
    assert count == 100_000 and resident_kb < 150_000
