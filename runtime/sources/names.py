"""Names of sources: for results and logs without passwords, for native code as UTF-8."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

MASK = "***"
SECRET_NAME = re.compile(
    r"pas|pwd|psw|psk|token|secret|key|auth|sig|credential|session|(^|[\W_])(pw|pin|sid)$", re.I)
# What some recorders put after a password in a path: user=a_password=b_channel=1_stream=0.sdp
NEXT_FIELD = r"_(?:channel|stream|subtype|user)="
FIELD_NAME = re.compile(r"""([^\s=&?;,/#"']+)\s*=\s*""")
FIELD_VALUE = re.compile(rf"""("[^"]*"|'[^']*'|(?:(?!{NEXT_FIELD})[^\s&;?#"'])*)""")
HAS_USER = re.compile(r"(:/{1,2}|//)[^/?#@\s]*@")
# A password may contain slashes and at signs: user:pass/w@rd@host. host:80/path?a@b has none.
HAS_PASSWORD = re.compile(r"(:/{1,2}|//)(?![^/:@\s]*:\d+[/?][^@\s]*\?|[^/:@\s]*:\d+\?)"
                          r"[^/?#@:\s]*:\S*@")
HAS_VALUE = re.compile(r"(=)[^/=&\s@]*:[^/=&\s@]*@")


def mask_passwords(where: str) -> str:
    """Return a URL or a GStreamer pipeline without users, passwords, tokens and keys."""
    for credentials in (HAS_PASSWORD, HAS_USER, HAS_VALUE):
        where = credentials.sub(r"\1", where)
    return mask_fields(where)


def mask_fields(where: str) -> str:
    """Replace the value in each `name=value` whose name is that of a secret."""
    parts, at = [], 0
    for name in FIELD_NAME.finditer(where):
        if name.start() >= at and SECRET_NAME.search(unquote(name[1])):
            parts += [where[at : name.end()], MASK]
            at = FIELD_VALUE.match(where, name.end()).end()  # type: ignore[union-attr]
    return "".join([*parts, where[at:]])


@contextmanager
def native_path(path: Path) -> Iterator[str]:
    """Yield a path that FFmpeg and OpenCV open as the file, valid inside the block.

    It is absolute, since FFmpeg takes what is before a colon for a protocol. Native code crashes on
    a name that is not UTF-8: such a file is opened by a link in a temporary folder.
    """
    absolute = os.path.abspath(path)
    try:
        absolute.encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="feredge-") as folder:
            link = os.path.join(folder, f"source{''.join(filter(str.isascii, path.suffix))}")
            os.symlink(absolute, link)
            yield link
        return
    yield absolute
