"""Whole exports that are killed at any time."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feredge.runtime.files import TEMPORARY_PREFIX

KILLS = 20
NAMES = {"tiny.onnx", "tiny.report.json"}


class Exports:
    """Exports of a tiny network, each in a process of its own; the first is into `first`."""

    def __init__(self, first):
        self.server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("export_server.py"), first],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.reply() == 0

    def start(self, folder):
        """Start an export; return the id of its process, which stays until `wait`."""
        print(folder, file=self.server.stdin, flush=True)
        return self.reply()

    def wait(self):
        """Wait for the export that was started; return its exit code."""
        print(file=self.server.stdin, flush=True)
        return self.reply()

    def reply(self):
        return int(self.server.stdout.readline())

    def close(self):
        self.server.stdin.close()
        assert self.server.wait(60) == 0


@pytest.fixture
def exports(tmp_path):
    server = Exports(tmp_path / "first")
    yield server
    server.close()


def remains(folder):
    return [path for path in folder.iterdir() if path.name.startswith(TEMPORARY_PREFIX)]


def check_whole(folder, expected):
    """Check that a folder holds both files of an export, whole, or none."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert set(files) in (set(), NAMES)
    if files:
        assert files["tiny.onnx"] == expected
        assert "tiny.onnx" in json.loads(files["tiny.report.json"])["files"]


@pytest.mark.slow
def test_a_killed_export_leaves_whole_files_or_none_and_the_next_removes_its_folder(
        exports, tmp_path):
    expected = (tmp_path / "first" / "tiny.onnx").read_bytes()
    start_s = time.perf_counter()
    exports.start(tmp_path / "second")
    assert exports.wait() == 0
    longest_s = time.perf_counter() - start_s
    rng, killed, folder = random.Random(0), 0, tmp_path / "out"
    folder.mkdir()
    for _ in range(KILLS):
        process = exports.start(folder)
        time.sleep(rng.uniform(0, longest_s))
        os.kill(process, signal.SIGKILL)
        killed += exports.wait() == -signal.SIGKILL
        check_whole(folder, expected)
        assert len(remains(folder)) <= 1, "an export removes what the one before it left"
    assert killed >= KILLS / 2
    exports.start(folder)
    assert exports.wait() == 0
    assert {path.name for path in folder.iterdir()} == NAMES
    check_whole(folder, expected)
