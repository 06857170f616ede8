"""The token of the live page."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from feredge.runtime.errors import UsageError


def read_token(text: str) -> str:
    """Return a token, or that in the file of `@FILE`: every process can read a command line.

    A warning is logged if other users can read the file.

    Raises:
        UsageError: the file cannot be read, or the token is empty.
    """
    token = read_token_file(Path(text[1:])) if text.startswith("@") else text
    if not token:
        raise UsageError("`token` is empty")
    return token


def read_token_file(path: Path) -> str:
    """Return the token in a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise UsageError(f"`token` @{path} cannot be read: {error}") from error
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        logging.getLogger(__name__).warning(
            "other users can read the token in %s; run: chmod 600 %s", path, path)
    return text
