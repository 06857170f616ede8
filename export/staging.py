"""The files of an export: every one whole or not there, with its size and hash."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from feredge.runtime.errors import OutputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, a limit on files


class staged:
    """A folder beside the final files, whose content is moved there only if all went well."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def __enter__(self) -> Path:
        """Make the folders.

        Raises:
            OutputError: that is not possible.
        """
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            self.folder = tempfile.TemporaryDirectory(dir=self.output, prefix=".feredge-")
        except OSError as error:
            raise OutputError(f"{self.output} cannot be written: {error.strerror}") from error
        return Path(self.folder.name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *rest: object
    ) -> None:
        """Move the files into place after success, and remove the folder after all.

        Raises:
            OutputError: the disk was full.
        """
        with self.folder:
            if kind is None:
                for file in sorted(Path(self.folder.name).iterdir()):
                    os.replace(file, self.output / file.name)
        if isinstance(error, OSError) and error.errno in FULL:
            raise OutputError(f"{self.output} cannot be written: {error.strerror}") from error


def described_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file of an export."""
    return {
        file.name: {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
        for file in sorted(folder.iterdir())
    }


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
