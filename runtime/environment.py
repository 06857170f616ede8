"""The one place that reads and sets the process's environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return where downloads and compiled kernels are kept; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "feredge"


def cuda_folders() -> list[Path]:
    """Return where a CUDA toolkit may be installed, the likeliest first."""
    named = [Path(folder) for key in ("CUDA_HOME", "CUDA_PATH") if (folder := os.environ.get(key))]
    return [*named, Path("/usr/local/cuda")]


def has_screen() -> bool:
    """Tell whether a window can be opened here."""
    return os.name == "nt" or any(os.environ.get(k) for k in ("DISPLAY", "WAYLAND_DISPLAY"))


def quiet_opencv() -> None:
    """Keep OpenCV and FFmpeg from printing; call it before cv2 is imported.

    What they say of a file that cannot be read, an error of ours says in one line.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def disable_telemetry() -> None:
    """Keep onnxruntime from telling Microsoft of its sessions, and from making up a device id.

    Official builds do both on Linux, too, from 1.32 on (their Privacy.md); it must be said before
    onnxruntime is loaded. Who wants to tell sets the variable to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


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
