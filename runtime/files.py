"""Atomic writes, and the checks that a file can be written before any work is done for it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feredge.runtime.errors import OutputError

TEMPORARY_PREFIX = ".feredge-"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, and rename it to `path` if the block succeeds.

    The temporary name is unpredictable and the file is created exclusively, so that neither a
    second process nor a symbolic link can redirect the write. It keeps the suffix of `path`. The
    content is on disk before the rename: a power cut leaves the old file or the new one.

    Raises:
        OutputError: the file cannot be written.
    """
    temporary = create_beside(path)
    try:
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def create_beside(path: Path) -> Path:
    """Create an empty file with an unpredictable name in the folder of `path`.

    Raises:
        OutputError: the folder is missing or cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{path.suffix}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    return temporary


def flush_to_disk(path: Path) -> None:
    """Wait until the content of a file is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_folder(path: Path) -> None:
    """Check that a file can be created at `path`.

    Raises:
        OutputError: its folder is missing or read-only, or `path` is a folder itself.
    """
    if path.is_dir():
        raise OutputError(f"{path} cannot be written: it is a folder")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission in {path.parent}")


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; an existing folder is kept.

    Raises:
        OutputError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error
