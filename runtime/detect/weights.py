"""Where the face detector's weights come from when none are named."""

from __future__ import annotations

import hashlib
import sys
import urllib.request
from pathlib import Path

from feredge.runtime.environment import cache_folder
from feredge.runtime.errors import EngineError, OutputError
from feredge.runtime.files import atomic_write

BUNDLED = Path(__file__).parents[1] / "weights" / "face_detector.onnx"
# YuNet (MIT), from OpenCV's model zoo: the weights of 2023mar with an input of any size. 2023mar
# itself takes 640x640 alone, which costs three times as long as a frame scaled to 320 px.
URL = ("https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/"
       "face_detection_yunet_2026may.onnx")
SHA256 = "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"
SIZE_BYTES = 229_738
TIMEOUT_S = 20


def detector_path(path: str | Path | None = None) -> Path:
    """Return the detector to use: the one named, the bundled one, the cached one, or a download.

    Raises:
        EngineError: the named file is missing, or the default could not be fetched.
    """
    if path is not None:
        if not Path(path).is_file():
            raise EngineError(f"detector {path} does not exist")
        return Path(path)
    if BUNDLED.is_file():
        return BUNDLED
    cached = cache_folder() / URL.rpartition("/")[2]
    if not cached.is_file():
        download(URL, cached)
    return cached


def download(url: str, target: Path) -> None:
    """Fetch the default detector, check its hash, and put it in place whole or not at all.

    Raises:
        EngineError: it cannot be reached or stored, or is another file.
    """
    print(f"fetching the face detector ({SIZE_BYTES // 1000} kB, MIT) from {url}", file=sys.stderr)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            content = response.read(SIZE_BYTES + 1)
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise EngineError(f"{url} is not the file that was expected (SHA-256 differs); "
                              "pass another detector with --detector")
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as temporary:
            temporary.write_bytes(content)
    except (OSError, OutputError) as error:
        raise EngineError(f"no face detector: {url} could not be fetched ({error}); download it "
                          "elsewhere and pass it with --detector PATH") from error
    print(f"kept in {target}", file=sys.stderr)
