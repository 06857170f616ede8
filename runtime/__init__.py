"""Serve an exported network: capture, detect, crop, infer, draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feredge.runtime.environment import disable_telemetry

disable_telemetry()  # every room comes by here before it loads onnxruntime

from feredge.runtime.engines import Engine, open_engine  # noqa: E402
from feredge.runtime.errors import FeredgeError  # noqa: E402
from feredge.runtime.results import Faces  # noqa: E402
from feredge.runtime.spec import ModelSpec  # noqa: E402

if TYPE_CHECKING:
    from feredge.runtime.detect import open_detector
    from feredge.runtime.pipeline import classify

__all__ = [
    "Engine", "Faces", "FeredgeError", "ModelSpec", "classify", "open_detector", "open_engine",
]

LAZY = {"open_detector": "feredge.runtime.detect", "classify": "feredge.runtime.pipeline"}


def __getattr__(name: str) -> object:
    """Load what needs OpenCV only when it is asked for."""
    if name in LAZY:
        from importlib import import_module

        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
