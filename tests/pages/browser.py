"""Debian's Chromium, headless and without network: what a page says on its console, and looks."""

import os
import re
import shutil
import subprocess
import tempfile

import pytest

QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--hide-scrollbars", "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0")


def chromium():
    """Return the browser; without it CI fails, others skip."""
    path = shutil.which("chromium")
    if path is None:
        message = "chromium is not installed: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def console(page, screenshot=None, *more):
    """Open a page, a file or an address; return the lines of its console."""
    address = page if isinstance(page, str) else page.as_uri()
    wanted = [f"--screenshot={screenshot}"] if screenshot else ["--dump-dom"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [chromium(), *QUIET, f"--user-data-dir={profile}", *wanted, *more, address],
            capture_output=True, text=True, timeout=200, check=True,
        )
    return re.findall(r"CONSOLE(?:\(|:)\d+\)?\] (.*)", done.stderr)
