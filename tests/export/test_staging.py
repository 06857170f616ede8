"""An export that is killed, meets another one, or names its own input as output."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feredge.export.fer_export import main
from feredge.export.staging import (
    StagingFolder,
    check_inputs,
    check_name,
    check_served,
    check_space,
)
from feredge.runtime.errors import OutputError, UsageError

SLOW_EXPORT = """
import sys
from pathlib import Path
from feredge.export.staging import StagingFolder
with StagingFolder(Path(sys.argv[1])) as folder:
    (folder / "manet.onnx").write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.readline()
    (folder / "manet.onnx").write_bytes(b"whole")
"""


def start(output):
    """Start an export that goes on when it is sent a line."""
    process = subprocess.Popen([sys.executable, "-c", SLOW_EXPORT, str(output)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_what_killed_exports_left_is_removed_by_the_next(tmp_path):
    for _ in range(20):
        process = start(tmp_path)
        process.kill()
        process.wait()
        assert len(list(tmp_path.iterdir())) == 1, "the one before it was removed"
    (tmp_path / ".feredge-empty").mkdir()
    with StagingFolder(tmp_path) as folder:
        (folder / "a").write_text("x")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_the_folder_at_once(number, tmp_path):
    process = start(tmp_path)
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_handlers_of_the_caller_are_kept(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StagingFolder(tmp_path):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_two_exports_into_one_folder_leave_whole_files(tmp_path):
    processes = [start(tmp_path) for _ in range(2)]
    assert len(list(tmp_path.glob(".feredge-*"))) == 2, "neither removes the other's folder"
    for process in processes:
        process.communicate("\n", timeout=60)
        assert process.returncode == 0
    assert (tmp_path / "manet.onnx").read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_in_place_of_a_staging_folder_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / ".feredge-link").symlink_to(tmp_path / "precious")
    with StagingFolder(tmp_path):
        pass
    assert (tmp_path / "precious" / "file").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/a", ".feredge-x", "a\nb", "a\0b"])
def test_a_name_that_leaves_the_folder_is_refused(name, tmp_path, capfd):
    with pytest.raises(UsageError, match="without separators"):
        check_name(name)
    if name and "\0" not in name:
        assert main(["--model", "manet", "--name", name, "--output", str(tmp_path / "o")]) == 2
        assert not (tmp_path / "o").exists() and capfd.readouterr().err.count("\n") == 1


def spellings(folder, file):
    (folder / "link.pth").symlink_to(file)
    os.link(file, folder / "hard.pth")
    return [file, folder / "." / file.name, folder / "link.pth", folder / "hard.pth",
            Path(os.path.relpath(file))]


def test_a_checkpoint_is_not_replaced_by_an_output_under_any_spelling(tmp_path):
    file = tmp_path / "manet.onnx"
    file.write_text("weights")
    for spelling in spellings(tmp_path, file):
        with pytest.raises(UsageError, match="would replace"):
            check_inputs(tmp_path, ["manet.onnx"], [str(spelling)], [])
    check_inputs(tmp_path, ["manet.onnx"], [None, str(tmp_path / "other")], [None])
    assert main(["--model", "manet", "--checkpoint", str(file), "--output", str(tmp_path)]) == 2
    assert file.read_text() == "weights"


@pytest.mark.parametrize("below", ["", "out", "a/b"])
def test_an_output_in_the_folder_of_the_faces_is_refused(below, tmp_path):
    with pytest.raises(UsageError, match="whose pictures are read"):
        check_inputs(tmp_path / below, [], [], [str(tmp_path)])
    check_inputs(tmp_path.parent, [], [], [str(tmp_path)])


def test_a_full_disk_is_found_before_the_export(tmp_path):
    check_space(tmp_path, 1000)
    with pytest.raises(OutputError, match="MB are free, the export needs about"):
        check_space(tmp_path, 1 << 60)


def test_what_fails_is_found_before_the_network_is_exported(tmp_path, capfd, monkeypatch):
    def never(*_):
        raise AssertionError("the long step was reached")

    monkeypatch.setattr("feredge.export.prepare.onnx_from_torch", never)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    start_s = time.perf_counter()
    for arguments, said in (
        (["--int8", "--calibration-data", tmp_path / "empty"], "holds no pictures"),
        (["--output", tmp_path / "file"], "cannot be written"),
        (["--labels", "a,b"], "8 classes, but there are 2 labels"),
    ):
        assert main(["--model", "manet", "--target", "onnx", "--output", str(tmp_path / "o"),
                     *map(str, arguments)]) == 2
        assert said in capfd.readouterr().err
    assert time.perf_counter() - start_s < 60


def test_an_input_in_a_servers_folder_is_refused_as_the_folder_is_replaced(tmp_path):
    (tmp_path / "manet.triton").mkdir()
    (tmp_path / "manet.triton" / "mine.pth").write_bytes(b"weights")
    with pytest.raises(UsageError, match="is replaced completely"):
        check_served(tmp_path / "manet.triton", (None, str(tmp_path / "manet.triton/mine.pth")))
    check_served(tmp_path / "manet.triton", (None, str(tmp_path / "mine.pth")))
