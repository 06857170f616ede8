"""INT8 from real faces: measure activation ranges, build quantized graphs, check their quality."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feredge.calibration.face_folder import FaceFolder
    from feredge.calibration.ranges import Ranges

__all__ = ["FaceFolder", "Ranges"]

_MODULES = {"FaceFolder": "face_folder", "Ranges": "ranges"}


def __getattr__(name: str) -> object:
    """Import OpenCV only when `FaceFolder` is used."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
