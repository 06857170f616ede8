"""Facial expression recognition at the edge: export, INT8 calibration, and a lean runtime."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feredge import benchmarks, calibration, export, runtime

    __version__: str

__all__ = ["__version__", "benchmarks", "calibration", "export", "runtime"]

def __getattr__(name: str) -> object:
    """Import a room, or look up the version, at the first use."""
    if name == "__version__":
        return find_version()
    if name in __all__:
        return import_module(f"feredge.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def find_version() -> str:
    """Return the version of the installed distribution."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("feredge")
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "0+unknown"


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
