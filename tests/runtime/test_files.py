"""Outputs that would replace an input, and atomic writes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feredge.runtime import files
from feredge.runtime.errors import OutputError, UsageError
from feredge.runtime.files import TEMPORARY_PREFIX, atomic_write, check_outputs_apart


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a picture, an album, an engine, and links to them; the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "album/a.jpg", "engine.onnx", "album/.note"):
        (tmp_path / name).write_bytes(b"content")
    os.link("a.jpg", "hard.jpg")
    os.symlink("a.jpg", "soft.jpg")
    os.symlink("album", "other")
    return tmp_path


@pytest.mark.parametrize("output, source", [
    ("a.jpg", "a.jpg"), ("./a.jpg", "a.jpg"), ("album/../a.jpg", "a.jpg"), ("hard.jpg", "a.jpg"),
    ("soft.jpg", "a.jpg"), ("a.jpg", "soft.jpg"), ("soft.jpg", "hard.jpg"), ("album", "album"),
    ("album/", "./album"), ("other", "album"), ("album", "other"), ("album/sub", "album"),
    ("album/new", "album"), ("album/new.v2", "album"),
    ("other/new/deep", "album"), ("album/sub/../new", "other"),
    ("engine.onnx", "engine.onnx"), ("//proc/self/cwd/a.jpg", "a.jpg"),
])
def test_an_output_that_is_an_input_is_refused_whatever_its_path_looks_like(folder, output, source):
    if output.startswith("//"):
        output = output.replace("//", "/")
    with pytest.raises(UsageError, match=r"would overwrite `source`") as error:
        check_outputs_apart({"output": output}, [("source", source)])
    assert "\n" not in str(error.value)
    check_outputs_apart({"output": "elsewhere" + Path(output).suffix}, [("source", source)])


@pytest.mark.parametrize("output, source", [
    ("album2", "album"), ("b.jpg", "a.jpg"), ("album/faces.jsonl", "album"), ("/dev/null", "a.jpg"),
    ("annotated/album", "album"), ("album/.hidden", "album"), ("a.jpg", "rtsp://a.jpg"),
    ("a.jpg", "none"), (".", "album"),
])
def test_an_output_beside_the_inputs_is_allowed(folder, output, source):
    check_outputs_apart({"output": output}, [("source", source), ("engine", "engine.onnx")])


@pytest.mark.parametrize("first, second", [
    ("x.csv", "x.csv"), ("x.csv", "./x.csv"), ("new/x.csv", "new/../new/x.csv"),
    ("other/x", "album/x"), ("hard.jpg", "a.jpg"),
])
def test_two_outputs_into_one_file_are_refused(folder, first, second):
    with pytest.raises(UsageError, match=r"`csv` .* is also written by `jsonl`"):
        check_outputs_apart({"jsonl": first, "csv": second}, [])
    check_outputs_apart({"jsonl": "/dev/null", "csv": "/dev/null"}, [])


def test_another_case_is_the_same_file_where_the_file_system_ignores_it(folder, monkeypatch):
    check_outputs_apart({"jsonl": "x.csv", "csv": "X.CSV"}, [])
    monkeypatch.setattr(files, "ignores_case", lambda folder: True)
    with pytest.raises(UsageError, match="also written"):
        check_outputs_apart({"jsonl": "x.csv", "csv": "X.CSV"}, [])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(target) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_a_folder_that_vanishes_during_a_write_is_one_line(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OutputError, match="cannot be written"), \
            atomic_write(folder / "file.txt") as temporary:
        temporary.unlink()
        folder.rmdir()
    assert TEMPORARY_PREFIX not in str(os.listdir(tmp_path))


def test_a_link_at_the_target_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("old")
    os.symlink("precious", tmp_path / "target")
    with atomic_write(tmp_path / "target") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "precious").read_text() == "old"
    assert (tmp_path / "target").read_text() == "new" and not (tmp_path / "target").is_symlink()


def test_a_device_and_a_pipe_are_written_and_never_replaced(tmp_path):
    os.symlink("/dev/null", tmp_path / "null")
    os.symlink("/dev/full", tmp_path / "full")
    with atomic_write(tmp_path / "null") as file:
        file.write_text("text")
    with pytest.raises(OutputError, match="No space left"), atomic_write(tmp_path / "full") as file:
        file.write_text("text")
    assert sorted(os.listdir(tmp_path)) == ["full", "null"]
    assert all(Path(tmp_path / name).is_char_device() for name in ("full", "null"))
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(tmp_path / "pipe") as file:
        file.write_text("text")
    assert os.read(reader, 10) == b"text" and (tmp_path / "pipe").is_fifo()
    os.close(reader)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    code = ("import sys; from pathlib import Path\n"
            "from feredge.runtime.errors import OutputError\n"
            "from feredge.runtime.files import atomic_write\n"
            "try:\n"
            "    with atomic_write(Path(sys.argv[1])) as file: file.write_bytes(bytes(10**6))\n"
            "except OutputError as error: sys.exit(str(error))\n")
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 100; exec "$0" -c "$1" "$2"', sys.executable, code,
         str(tmp_path / "big")], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "big cannot be written: File too large" in done.stderr
    assert os.listdir(tmp_path) == []
