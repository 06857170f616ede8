"""The detector files: the bundled one, and YuNet, which is downloaded on request."""

from __future__ import annotations

import sys
from pathlib import Path

from feredge.runtime.detect.options import YUNET
from feredge.runtime.environment import cache_folder
from feredge.runtime.errors import EngineError, OutputError
from feredge.runtime.files import atomic_write

BUNDLED = Path(__file__).parents[1] / "weights" / "face_detector.onnx"
# YuNet (MIT), from OpenCV's model zoo: the weights of 2023mar with an input of any size. 2023mar
# itself takes 640x640 only, which costs three times as much as a frame scaled to 320 px.
URL = ("https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/"
       "face_detection_yunet_2026may.onnx")
SHA256 = "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"
SIZE_BYTES = 229_738
TIMEOUT_S = 20


def detector_path(path: str | Path | None = None) -> Path:
    """Return the detector file of a `--detector` argument.

    Args:
        path: a file; `yunet`: YuNet from the cache, or downloaded; None: the bundled detector.

    Raises:
        EngineError: the named file is missing, or YuNet could not be downloaded.
    """
    if path == YUNET:
        return yunet_path()
    found = BUNDLED if path is None else Path(path)
    if not found.is_file():
        raise EngineError(f"detector {found} does not exist")
    return found


def yunet_path() -> Path:
    """Return YuNet in the cache; download it if it is missing or its hash differs.

    Raises:
        EngineError: it could not be downloaded.
    """
    cached = cache_folder() / URL.rpartition("/")[2]
    if not cached.is_file() or not is_yunet(cached.read_bytes()):
        download(URL, cached)
    return cached


def is_yunet(content: bytes) -> bool:
    """Return whether a file has the expected hash."""
    import hashlib  # slow to load, and rarely used

    return hashlib.sha256(content).hexdigest() == SHA256


def download(url: str, target: Path) -> None:
    """Download YuNet, check its hash, and write it atomically.

    Raises:
        EngineError: the address cannot be reached, the file cannot be stored, or its hash differs.
    """
    import urllib.request  # slow to load, and rarely used

    print(f"downloading YuNet ({SIZE_BYTES // 1000} kB, MIT) from {url}", file=sys.stderr)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            content = response.read(SIZE_BYTES + 1)
        if not is_yunet(content):
            raise EngineError(f"{url} is not the expected file (its SHA-256 differs); leave out "
                              "`detector` for the bundled detector")
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as temporary:
            temporary.write_bytes(content)
    except (OSError, OutputError) as error:
        raise EngineError(f"YuNet could not be downloaded from {url} ({error}); download it "
                          "elsewhere and pass its path as `detector`, or leave out `detector` for "
                          "the bundled detector") from error
    print(f"stored in {target}", file=sys.stderr)
