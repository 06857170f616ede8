"""Streams and video files behind a URL."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2

from feredge.runtime.environment import configure_ffmpeg
from feredge.runtime.errors import SourceError
from feredge.runtime.sources.base import Source
from feredge.runtime.sources.capture import open_first
from feredge.runtime.sources.live import LiveSource
from feredge.runtime.sources.names import mask_passwords
from feredge.runtime.sources.video import Video

TIMEOUT_MS = 10_000


def open_url(url: str, retry_s: float | None = None) -> Source:
    """Open a stream, or a video file behind a URL.

    Args:
        url: any address that FFmpeg can open.
        retry_s: see `SourceOptions`.

    Raises:
        SourceError: there is no answer, or nothing that can be decoded.
    """
    name = mask_passwords(url)
    configure_ffmpeg()
    open_capture = partial(capture_url, name, url)
    if retry_s and not url.startswith("http"):  # not a file: it may be opened later
        return LiveSource(name, open_capture, retry_s)
    capture = open_first(name, open_capture, retry_s)
    if capture is not None and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return Video(name, capture)
    return LiveSource(name, open_capture, retry_s, capture)


def capture_url(name: str, url: str) -> Any:
    """Return a URL's open capture.

    Raises:
        SourceError: it cannot be opened.
    """
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC,
              TIMEOUT_MS]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise SourceError(f"{name} cannot be opened: no answer within {TIMEOUT_MS // 1000} s, "
                          "or no video")
    return capture
