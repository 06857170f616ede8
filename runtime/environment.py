"""The one place that reads and sets the process's environment."""

from __future__ import annotations

import os
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
    """Let FFmpeg open streams side by side, and look at 3 frames before it hands any out, not 20.

    Without the first, OpenCV (which knows it from 4.8 on) opens one stream after the other, and a
    camera that is gone holds up the others for its whole time-out; FFmpeg itself is safe since its
    version 4. The second tells a stream's rate: at 25 frames a second a camera opens in 0.5 s so,
    instead of in 1.2. Files' rates stay right; at 0 an MPEG transport stream's would come out
    doubled. TCP is what OpenCV sets by itself.
    """
    os.environ.setdefault("OPENCV_FFMPEG_IS_THREAD_SAFE", "1")
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|fpsprobesize;3")


def broker_password() -> str | None:
    """Return the message broker's password, which a command line would show to every process."""
    return os.environ.get("FEREDGE_MQTT_PASSWORD")
