"""Facial expression recognition at the edge: export, INT8 calibration, and a lean runtime."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feredge import benchmarks, calibration, export, runtime

__all__ = ["__version__", "benchmarks", "calibration", "export", "runtime"]

try:
    __version__ = version("feredge")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> object:
    """Import a room when it is first used as an attribute."""
    if name in __all__:
        return import_module(f"feredge.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
