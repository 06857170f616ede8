"""The files of an export: all of them appear at the end, or none, and no input is replaced."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from feredge.runtime.errors import OutputError, UsageError
from feredge.runtime.files import TEMPORARY_PREFIX, file_key

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, a limit on files
END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class StagingFolder:
    """A folder beside the final files, whose content is moved there only after success.

    Its name is unpredictable, and a lock marks it as used: folders without one are what killed
    exports left, and are removed. SIGTERM and SIGHUP remove this one at once.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Path:
        """Create the folders.

        Raises:
            OutputError: they cannot be created.
        """
        self._catch_signals()
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.output)
            self.folder, self.lock = create_locked(self.output)
        except OSError as error:
            self._restore_signals()
            raise OutputError(f"{self.output} cannot be written: {error.strerror}") from error
        return self.folder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *rest: object
    ) -> None:
        """Move the files into place after success, and remove the folder in any case.

        Raises:
            OutputError: the disk is full, or a file cannot be moved.
        """
        try:
            if kind is None:
                self._publish()
        except OSError as failure:
            raise OutputError(f"{self.output} cannot be written: {failure.strerror}") from failure
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self.lock)
            self._restore_signals()
        if isinstance(error, OSError) and error.errno in FULL:
            raise OutputError(f"{self.output} cannot be written: {error.strerror}") from error

    def _publish(self) -> None:
        for number, file in enumerate(sorted(self.folder.iterdir())):
            target = self.output / file.name
            if file.is_dir() and target.is_dir():
                os.replace(target, self.folder / f"before-{number}")
            os.replace(file, target)

    def _catch_signals(self) -> None:
        """Let signals that end the process run `__exit__`; those that a caller handles stay."""
        if threading.current_thread() is threading.main_thread():
            for number in END_SIGNALS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    self.handlers[number] = signal.signal(number, exit_on_signal)

    def _restore_signals(self) -> None:
        while self.handlers:
            signal.signal(*self.handlers.popitem())


def exit_on_signal(number: int, _: FrameType | None) -> NoReturn:
    """End the process as the signal would, after clean-up."""
    raise SystemExit(128 + number)


def lock_folder(folder: Path) -> int:
    """Lock a folder until the process ends or the descriptor is closed; returns the descriptor.

    Raises:
        BlockingIOError: another process has locked it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def create_locked(output: Path) -> tuple[Path, int]:
    """Create a folder with an unpredictable name and lock it.

    Another export may take it for an abandoned one before it is locked: then the next is created.
    """
    while True:
        folder = Path(tempfile.mkdtemp(dir=output, prefix=TEMPORARY_PREFIX))
        try:
            handle = lock_folder(folder)
        except (FileNotFoundError, BlockingIOError):
            continue
        if folder.exists():
            return folder, handle
        os.close(handle)


def remove_abandoned(output: Path) -> None:
    """Remove the staging folders of exports that were killed; running ones hold a lock."""
    for folder in output.glob(f"{TEMPORARY_PREFIX}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        try:
            handle = lock_folder(folder)
        except OSError:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def check_served(folder: Path, inputs: Iterable[str | None]) -> None:
    """Check that no input lies in a server's folder, which an export replaces completely.

    Raises:
        UsageError: one does.
    """
    for path in map(Path, filter(None, inputs)):
        if folder.resolve() in (path.resolve(), *path.resolve().parents):
            raise UsageError(f"{folder} is replaced completely, and {path} lies in it: choose "
                             "another --output folder or --name")


def check_name(name: str) -> str:
    """Return the name of an export's files if it stays in the output folder.

    Raises:
        UsageError: it has a separator or a control character, or begins with a dot.
    """
    if not name or name.startswith(".") or not name.isprintable() or set(name) & set("/\\:"):
        raise UsageError(f"name {ascii(name)[:60]}: expected the start of file names, without "
                         "separators and not beginning with a dot; --output names the folder")
    return name


def check_inputs(
    output: Path, names: Iterable[str], files: Iterable[str | None], folders: Iterable[str | None]
) -> None:
    """Check that an export cannot replace what it reads, under any spelling of the paths.

    Args:
        output: the folder of the export's files.
        names: of the files that it may write.
        files: files that it reads; None is skipped.
        folders: folders of faces that it reads; None is skipped.

    Raises:
        UsageError: a file would be replaced, or the output folder lies in a folder of faces.
    """
    real = output.resolve()
    for folder in filter(None, folders):
        if Path(folder).resolve() in (real, *real.parents):
            raise UsageError(f"the output folder {output} lies in {folder}, whose pictures are "
                             "read: choose another one with --output")
    present = [output / name for name in names if (output / name).exists()]
    for file in map(Path, filter(None, files)):
        if file.exists() and file_key(file) in map(file_key, present):
            raise UsageError(f"the export would replace {file}, which it reads: choose another "
                             "--output folder or --name")


def check_space(output: Path, needed_bytes: int) -> None:
    """Check that a disk has room for files.

    Raises:
        OutputError: it has not.
    """
    free = shutil.disk_usage(output).free
    if free < needed_bytes:
        raise OutputError(f"{output} cannot be written: {free / 1e6:.0f} MB are free, the export "
                          f"needs about {needed_bytes / 1e6:.0f} MB")


def described_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the size and SHA-256 of every file of an export."""
    return {
        file.name: {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
        for file in sorted(folder.iterdir()) if file.is_file()
    }


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
