"""Atomic writes, and the checks before any work is done that a file can and may be written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from feredge.runtime.errors import OutputError, UsageError
from feredge.runtime.suffixes import TEXTS

TEMPORARY_PREFIX = ".feredge-"
SYSTEM_FOLDERS = ("/dev", "/dev/fd", "/proc/self/fd")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, and rename it to `path` if the block succeeds.

    The temporary name is unpredictable and the file is created exclusively, so that neither a
    second process nor a symbolic link can redirect the write. It keeps the suffix of `path`. The
    content is on disk before the rename: a power cut leaves the old file or the new one. A device
    or a pipe is written directly.

    Raises:
        OutputError: the file cannot be written.
    """
    is_device = is_special(path)
    temporary = path if is_device else create_beside(path)
    try:
        yield temporary
        if not is_device:
            flush_to_disk(temporary)
            os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if not is_device:
            remove(temporary)


def is_special(path: Path) -> bool:
    """Return whether a path is a device, a pipe or a descriptor, which a file must not replace."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        mode = stat.S_IFREG
    is_file = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    return not is_file or str(path.absolute().parent) in SYSTEM_FOLDERS


def create_beside(path: Path) -> Path:
    """Create an empty file with an unpredictable name in the folder of `path`.

    Raises:
        OutputError: the folder is missing or cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}{path.suffix}")
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
    if is_special(path):
        return  # written directly: nothing is created in its folder
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: no permission in {path.parent}")


def prepare_folder(path: Path) -> None:
    """Create the folder of a file, and check that the file can be created.

    Raises:
        OutputError: it cannot.
    """
    make_folder(path.parent)
    check_folder(path)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; an existing folder is kept.

    Raises:
        OutputError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error


def remove(path: Path) -> None:
    """Remove a temporary file, if it is there and can be removed."""
    with suppress(OSError):
        path.unlink()


def check_outputs_apart(
    outputs: Mapping[str, str | Path], inputs: Iterable[tuple[str, str | Path]]
) -> None:
    """Check that no output replaces an input or another output, whatever its path looks like.

    Links, other spellings of a path, and another case where the file system ignores it are the same
    file. An output folder may not be a folder that is read, nor be inside it: the next run would
    read the annotated pictures as well. Devices, pipes and URLs are not files and are skipped.

    Args:
        outputs: the path of each output by its parameter.
        inputs: parameter and path of each input.

    Raises:
        UsageError: two of them are the same.
    """
    written: dict[FileKey, str] = {}
    sources = list(inputs)
    for name, path in outputs.items():
        target = Path(path)
        for input_name, input_path in sources:
            if is_same_place(target, Path(input_path)):
                raise UsageError(f"`{name}` {target} would overwrite `{input_name}` {input_path}: "
                                 "name another file")
        key = file_key(target)
        if key is not None and key in written:
            raise UsageError(f"`{name}` {target} is also written by `{written[key]}`: name another "
                             "file")
        if key is not None:
            written[key] = name


FileKey = tuple[int, int, tuple[str, ...]]


def is_same_place(output: Path, source: Path) -> bool:
    """Return whether an output is an input, or a folder inside a folder that is read."""
    if not source.exists() or file_key(output) is None:
        return False
    if file_key(output) == file_key(source):
        return True
    is_text = output.suffix.lower() in TEXTS and not output.is_dir()
    if is_text or not source.is_dir():
        return False
    inside = Path(os.path.realpath(output)).parents
    hidden = any(part.startswith(".") for part in Path(os.path.realpath(output)).parts)
    return not hidden and any(file_key(folder) == file_key(source) for folder in inside)


def file_key(path: Path) -> FileKey | None:
    """Return what identifies a file, also one that does not exist yet; None for a device or pipe.

    Device and inode of the file, or of its nearest folder that exists and the names below that.
    """
    path = Path(os.path.realpath(path))
    names: list[str] = []
    while not os.path.lexists(path) and path.parent != path:
        names.insert(0, path.name)
        path = path.parent
    state = stored_path(path).stat()
    if not names and not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
        return None
    if names and ignores_case(path):
        names = [name.casefold() for name in names]
    return state.st_dev, state.st_ino, tuple(names)


def stored_path(path: Path) -> Path:
    """Return an existing path in the case in which its folders list it.

    Needed because exFAT and NTFS drivers in user space ignore case and yet give each spelling of a
    name its own inode.
    """
    if path.parent == path:
        return path
    folder = stored_path(path.parent)
    other = path.name.swapcase()
    if other == path.name or not os.path.lexists(folder / other):
        return folder / path.name
    try:
        names = os.listdir(folder)
    except OSError:
        names = []
    same = [name for name in names if name.casefold() == path.name.casefold()]
    return folder / (path.name if path.name in same or not same else same[0])


def ignores_case(folder: Path) -> bool:
    """Return whether the file system of a folder ignores the case of names: a file is tried."""
    try:
        file = create_beside(folder / "x.case")
    except OutputError:
        return False
    try:
        return os.path.lexists(file.with_name(file.name.upper()))
    finally:
        remove(file)
