"""The one place that reads and sets the environment of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from feredge.runtime.errors import require

SCREEN_S = 20.0  # for opening a window, on a slow machine


def cache_folder() -> Path:
    """Return the folder of downloads and compiled kernels; it may not exist yet."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))  # a relative path is invalid and ignored
    return (base if base.is_absolute() else home_cache()) / "feredge"


@cache
def home_cache() -> Path:
    """Return the cache folder of the user, or one for this process alone if there is no home."""
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # no HOME, and the user is not in the password database
        return Path(tempfile.mkdtemp(prefix="feredge-"))


def cuda_folders() -> list[Path]:
    """Return the folders where a CUDA toolkit may be installed, in order of preference."""
    named = [Path(folder) for key in ("CUDA_HOME", "CUDA_PATH") if (folder := os.environ.get(key))]
    return [*named, Path("/usr/local/cuda")]


@cache
def has_screen() -> bool:
    """Return whether OpenCV can open a window here.

    A screen that is named but cannot be reached ends the process in OpenCV's GUI library, so
    another process tries it.
    """
    if os.name != "nt" and not any(os.environ.get(k) for k in ("DISPLAY", "WAYLAND_DISPLAY")):
        return False
    command = [sys.executable, "-c", "import cv2; cv2.namedWindow('feredge')"]
    try:
        return subprocess.run(command, capture_output=True, timeout=SCREEN_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def quiet_opencv() -> None:
    """Turn off the messages of OpenCV and FFmpeg; call it before cv2 is imported.

    The errors of this package replace them.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def load_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry disabled.

    From version 1.32 on, official builds report sessions and create a device id on Linux as well
    (their Privacy.md). The variable must be set before the import; a value of the user is kept.

    Raises:
        PackageError: onnxruntime is not installed or does not load.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return require("onnxruntime")


def configure_ray() -> None:
    """Disable Ray's usage statistics; call it before Ray is started."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def configure_ffmpeg() -> None:
    """Let FFmpeg open streams concurrently, and analyze 3 frames before the first one, not 20.

    Without the first setting OpenCV (4.8 and later) opens one stream after the other, and a camera
    that is gone delays the others by its whole time-out; FFmpeg itself is thread-safe since
    version 4. The frames analyzed determine a stream's rate: at 25 frames/s a camera opens in
    0.5 s instead of 1.2 s. The rates of files stay correct; with 0 frames that of an MPEG transport
    stream would be doubled. TCP is OpenCV's own default.
    """
    os.environ.setdefault("OPENCV_FFMPEG_IS_THREAD_SAFE", "1")
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|fpsprobesize;3")


def broker_password() -> str | None:
    """Return the message broker's password, which a command line would show to every process."""
    return os.environ.get("FEREDGE_MQTT_PASSWORD")


def child_environment() -> dict[str, str]:
    """Return the variables of a Python process that finds the same modules as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
