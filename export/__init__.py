"""From a trained checkpoint to ONNX, INT8 and TensorRT plans."""

from feredge.export.exporter import export
from feredge.export.models.registry import Defaults, network
from feredge.export.options import ExportOptions
from feredge.export.tensorrt.options import PlanOptions

__all__ = ["Defaults", "ExportOptions", "PlanOptions", "export", "network"]


def __dir__() -> list[str]:
    """List the public names alone."""
    return __all__
