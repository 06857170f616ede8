"""The report of an export as one page that needs nothing else: no script, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent
GRAPHS = {
    "fp32": "FP32",
    "cpu-7bit": "INT8 for CPUs, 7-bit weights",
    "cpu-8bit": "INT8 for CPUs, 8-bit weights",
    "cpu-7bit-rounded": "INT8 for CPUs, 7-bit weights, rounded on faces",
    "cpu-8bit-rounded": "INT8 for CPUs, 8-bit weights, rounded on faces",
    "tensorrt": "INT8 for TensorRT",
    "tensorrt-fp16": "INT8 and FP16 for TensorRT",
}


def html_report(report: Mapping[str, Any]) -> str:
    """Return the page that shows a report; a part that the report lacks is left out.

    Args:
        report: as it is written to `NAME.report.json`. All of its text is escaped: labels and
            names come from files that may be anybody's.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True,
                            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    templates.filters |= {
        "percent": "{:.2%}".format, "share": "{:.1%}".format, "megabytes": megabytes,
        "scientific": "{:.2e}".format, "points": points,
        "graph": graph_name,
    }
    templates.globals |= {"bars": bars, "cells": cells}
    int8, files = report.get("int8", {}), report.get("files", {})
    page = templates.get_template("template.html.jinja")
    return page.render(report=report, int8=int8, files=files, fp32_file=fp32_file(files),
                       graphs={file: int8[file] for file in files if file in int8})


def graph_name(key: str) -> str:
    """Return what a graph is called where there is room."""
    return GRAPHS.get(key, key)


def fp32_file(files: Iterable[str]) -> str | None:
    """Return which file is the FP32 graph: the others' names add to its own."""
    return min((file for file in files if file.endswith(".onnx")), key=len, default=None)


def megabytes(count: int) -> str:
    """Write a size as the rest of the project does: 10^6 bytes."""
    return f"{count / 1e6:,.2f} MB"


def points(drop: float | None) -> str:
    """Write what was lost as a change, in points; empty where nothing could be lost."""
    return "" if drop is None else f"{-drop:+.2f}" if round(drop, 2) else "0.00"


def bars(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return each value's bar as left edge and width, in per cent of a scale that all share.

    The scale holds zero and every value: a bar begins at zero and may reach to its left.
    """
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    span = (high - low) or 1.0
    return [(round(100 * (min(value, 0.0) - low) / span, 2), round(100 * abs(value) / span, 2))
            for value in values]


def cells(
    counts: Sequence[Sequence[int]], before: Sequence[Sequence[int]]
) -> list[list[tuple[int, int, float]]]:
    """Return a confusion matrix as count, its change and its share of the true class.

    Args:
        counts: faces, true classes down, answers across.
        before: the same of FP32.
    """
    return [[(count, count - was, round(count / (sum(row) or 1), 3))
             for count, was in zip(row, row_before)] for row, row_before in zip(counts, before)]
