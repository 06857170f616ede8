"""The file of `--ranges`: our own JSON, a Q/DQ ONNX file, or a TensorRT calibration cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from feredge.calibration.measure.tensorrt_cache import HEADER, read_cache
from feredge.calibration.ranges import Ranges
from feredge.runtime.errors import CalibrationError

if TYPE_CHECKING:
    import onnx_ir as ir

MOST_BYTES = 8 << 20  # JSON takes 25 times its size in memory; the largest file here has 50 kB


def read_ranges(path: Path, model: ir.Model, checkpoint_sha256: str) -> Ranges:
    """Read ranges of this or another tool; the kind of file is recognized by its content.

    Args:
        path: `NAME.ranges.json`, a Q/DQ ONNX file with the tensor names of `model`, or a TensorRT
            calibration cache.
        model: FP32, from `onnx_from_torch`.
        checkpoint_sha256: of its weights, to which ranges without a hash are taken to belong.

    Raises:
        CalibrationError: the file cannot be read, belongs to another network, or is invalid.
    """
    from feredge.calibration.measure.import_qdq import ranges_from_bounds, ranges_from_onnx

    if path.suffix == ".onnx":
        values = ranges_from_onnx(path, model)
    else:
        text = read_text(path)
        if not HEADER.match(text):
            return Ranges.from_json(text)
        values = ranges_from_bounds({name: (-most, most) for name, most
                                     in read_cache(text).items()}, model)
    return Ranges(checkpoint_sha256, 0, "", {}, values)


def read_text(path: Path) -> str:
    """Return the content of a text file, without a byte-order mark.

    Raises:
        CalibrationError: it cannot be read, is not text, or is too large.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CalibrationError(f"{path} has {path.stat().st_size >> 20} MB, expected ranges of "
                                   f"at most {MOST_BYTES >> 20} MB")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} cannot be read: {error}") from error
