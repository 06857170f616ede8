"""Run an exported network: read frames, detect, crop, classify, track, and write results."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from feredge.runtime.errors import (
    BoxError,
    CalibrationError,
    CheckpointError,
    EngineError,
    ExportError,
    FeredgeError,
    KernelError,
    OutputError,
    PackageError,
    SourceError,
    SpecError,
    UsageError,
)

if TYPE_CHECKING:
    from feredge.runtime.detect import Detector, DetectorOptions, open_detector
    from feredge.runtime.engines import Engine, open_engine
    from feredge.runtime.observer import Observer
    from feredge.runtime.options import EngineOptions, RunOptions
    from feredge.runtime.output_options import OutputOptions, PageOptions
    from feredge.runtime.outputs.annotator import Annotator
    from feredge.runtime.outputs.base import AnnotatedOutput, Output
    from feredge.runtime.outputs.text import Csv, JsonLines
    from feredge.runtime.outputs.video import VideoFile
    from feredge.runtime.pipeline import Pipeline, PipelineOptions, classify
    from feredge.runtime.results import Faces, Frame, FrameResult, TrackEvent
    from feredge.runtime.runner import predict, run
    from feredge.runtime.sources import Source, SourceOptions, open_source
    from feredge.runtime.spec import ModelSpec
    from feredge.runtime.timing import Summary
    from feredge.runtime.track.options import TrackOptions
    from feredge.runtime.track.smoothing import Smoother
    from feredge.runtime.track.tracker import Tracker

__all__ = [
    "AnnotatedOutput", "Annotator", "BoxError", "CalibrationError", "CheckpointError", "Csv",
    "Detector", "DetectorOptions", "Engine", "EngineError", "EngineOptions", "ExportError", "Faces",
    "FeredgeError", "Frame", "FrameResult", "JsonLines", "KernelError", "ModelSpec", "Observer",
    "Output", "OutputError", "OutputOptions", "PackageError", "PageOptions", "Pipeline",
    "PipelineOptions", "RunOptions", "Smoother", "Source", "SourceError", "SourceOptions",
    "SpecError", "Summary", "TrackEvent", "TrackOptions", "Tracker", "UsageError", "VideoFile",
    "classify", "open_detector", "open_engine", "open_source", "predict", "run",
]

# Loaded at the first use: most of them need OpenCV, and importing the package stays fast.
LAZY = {
    "detect": ("Detector", "DetectorOptions", "open_detector"),
    "engines": ("Engine", "open_engine"),
    "observer": ("Observer",),
    "options": ("EngineOptions", "RunOptions"),
    "output_options": ("OutputOptions", "PageOptions"),
    "outputs.video": ("VideoFile",),
    "outputs.annotator": ("Annotator",),
    "outputs.base": ("AnnotatedOutput", "Output"),
    "outputs.text": ("Csv", "JsonLines"),
    "pipeline": ("Pipeline", "PipelineOptions", "classify"),
    "results": ("Faces", "Frame", "FrameResult", "TrackEvent"),
    "runner": ("predict", "run"),
    "sources": ("Source", "SourceOptions", "open_source"),
    "spec": ("ModelSpec",),
    "timing": ("Summary",),
    "track.options": ("TrackOptions",),
    "track.smoothing": ("Smoother",),
    "track.tracker": ("Tracker",),
}
MODULES = {name: module for module, names in LAZY.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
