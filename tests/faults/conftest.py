"""Fixtures: file systems that are mounted for a test, where the machine allows it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest


def run_or_skip(*words: str) -> str:
    """Run a command, return its output; skip the test with its reason if the machine refuses."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip(f"{words[0]} is not installed")
    if done.returncode:
        pytest.skip(f"{' '.join(words[:3])} is refused here: {done.stderr.strip()[-200:]}")
    return done.stdout.strip()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a new, empty file system of so many kB, and return its folder."""
    with ExitStack() as mounted:

        def mount(size_kb: int) -> Path:
            folder = tmp_path / f"disk-{size_kb}"
            folder.mkdir()
            run_or_skip("mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder))
            mounted.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
            return folder

        yield mount


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    """The folder of a new exFAT file system, as SD cards have it: it ignores the case of names."""
    image, folder = tmp_path / "card.img", tmp_path / "card"
    image.write_bytes(b"")
    os.truncate(image, 8 << 20)
    folder.mkdir()
    run_or_skip("mkfs.exfat", str(image))
    with ExitStack() as mounted:
        device = run_or_skip("losetup", "--find", "--show", str(image))
        mounted.callback(subprocess.run, ["losetup", "--detach", device], check=True)
        run_or_skip("mount.exfat-fuse", device, str(folder))
        mounted.callback(subprocess.run, ["umount", str(folder)], check=True)
        yield folder
