"""The one Python call of the export: packages are checked first, then loaded."""

from __future__ import annotations

from typing import Any

from feredge.export.options import ExportOptions
from feredge.runtime.errors import require

PACKAGES = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "tqdm", "jinja2")


def export(options: ExportOptions) -> dict[str, Any]:
    """Export a network; its files appear in `options.output` once all of them are complete.

    Returns:
        The report, as it is written to `NAME.report.json`.

    Raises:
        FeredgeError: the export failed; no file is left then, except for the report of an INT8
            graph that costs more than the limits allow.
    """
    for package in PACKAGES:
        require(package, "export")
    from feredge.export.write import write_export

    return write_export(options)
