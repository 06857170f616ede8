"""TensorRT's own calibrators (versions up to 10), shown the faces that ours measures.

TensorRT asks for a cache first, then for batches until there are none, then hands out the cache
that it made; Polygraphy's calibrator does the asking, the copies to the GPU and the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.measure.tensorrt_cache import ENTROPY, cache_header, read_cache
from feredge.runtime.errors import CalibrationError, require
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME

if TYPE_CHECKING:
    import tensorrt as trt

MINMAX = "MinMaxCalibration"
BASES = {ENTROPY: "IInt8EntropyCalibrator2", MINMAX: "IInt8MinMaxCalibrator"}


@dataclass(frozen=True)
class FullBatches:
    """Faces as TensorRT feeds them, `{name: (size, 3, side, side)}`, anew at each pass.

    It calibrates at one shape, the profile's usual one: what does not fill a last batch is left
    out.
    """

    faces: FaceFolder
    size: int

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Yield the batches of one pass."""
        waiting: list[Array] = []
        for crops in self.faces.batches():
            waiting.extend(crops)
            while len(waiting) >= self.size:
                yield {INPUT_NAME: np.stack(waiting[: self.size])}
                del waiting[: self.size]


def face_calibrator(
    faces: FaceFolder, size: int, cache: Path, tensorrt: Any, version: tuple[int, ...],
    algorithm: str = ENTROPY,
) -> trt.IInt8Calibrator:
    """Return a calibrator that measures on faces, or hands out what it measured before.

    Args:
        faces: the calibration faces, cut as the runtime cuts them.
        size: faces a batch, the usual one of the calibration profile.
        cache: read if it is there, else written when TensorRT has calibrated.
        tensorrt: the module.
        version: of it, `(10, 3, 0)`.
        algorithm: `EntropyCalibration2`, which a DLA needs, or `MinMaxCalibration`.

    Raises:
        CalibrationError: this TensorRT has no calibrators, or the cache is another's.
        PackageError: Polygraphy is not installed.
    """
    base = getattr(tensorrt, BASES[algorithm], None)
    if base is None:
        raise CalibrationError(f"TensorRT {'.'.join(map(str, version))} has no calibrators: build "
                               "from the graph with Q/DQ, NAME.int8.qdq.onnx")
    if cache.is_file():
        read_cache(cache.read_text(), cache_header(version, algorithm))
    require("polygraphy", "tensorrt")
    from polygraphy.backend.trt import Calibrator

    calibrator: trt.IInt8Calibrator = Calibrator(
        FullBatches(faces, size), str(cache), base, batch_size=size)
    return calibrator
