"""Names of sources for results, logs and errors: without passwords."""

from __future__ import annotations

import re


def mask_passwords(where: str) -> str:
    """Return a URL or a GStreamer pipeline without its passwords."""
    where = re.sub("//[^/]*@", "//", where)
    # Of GStreamer's sources: user-pw, proxy-pw, passphrase.
    return re.sub(r"""(-pw|passphrase)(\s*=\s*)("[^"]*"|'[^']*'|\S+)""", r"\1\2***", where)
