"""Time per kind of operator, from onnxruntime's profile."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from feredge.runtime.environment import load_onnxruntime
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME

RUNS, WARM_UP = 20, 3


def operator_ms(onnx_path: Path, crops: Array) -> dict[str, float]:
    """Profile a graph in onnxruntime.

    Args:
        onnx_path: an ONNX engine.
        crops: `(n, 3, side, side)` float32.

    Returns:
        Milliseconds per inference by kind of operator, largest first; the kinds are those of the
        graph after onnxruntime's optimization, with fused operators.
    """
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(onnx_path), options,
                                       providers=["CPUExecutionProvider"])
        for _ in range(WARM_UP + RUNS):
            session.run([OUTPUT_NAME], {INPUT_NAME: crops})
        events = json.loads(Path(session.end_profiling()).read_text())
    return sum_kernels(events)


def sum_kernels(events: Sequence[dict[str, object]]) -> dict[str, float]:
    """Sum the kernels of a profile by kind of operator, without the warm-up runs."""
    starts = sorted(float(str(event["ts"])) for event in events
                    if event.get("name") == "model_run")[WARM_UP:]
    totals: dict[str, float] = defaultdict(float)
    for event in events:
        if str(event.get("name", "")).endswith("_kernel_time") and (
                float(str(event["ts"])) >= starts[0]):
            arguments = event["args"]
            assert isinstance(arguments, dict)
            totals[arguments["op_name"]] += float(str(event["dur"])) / 1e3 / len(starts)
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def operator_table(profiles: dict[str, dict[str, float]]) -> str:
    """Return the profiles of several graphs as one Markdown table."""
    kinds = dict.fromkeys(kind for profile in profiles.values() for kind in profile)
    order = sorted(kinds, key=lambda kind: -max(p.get(kind, 0) for p in profiles.values()))
    rows = ["| operator, ms | " + " | ".join(f"`{name}`" for name in profiles) + " |",
            "| --- |" + " --- |" * len(profiles)]
    for kind in order:
        cells = (f"{p[kind]:.3f}" if kind in p else "" for p in profiles.values())
        rows.append(f"| {kind} | " + " | ".join(cells) + " |")
    totals = (f"{sum(profile.values()):.3f}" for profile in profiles.values())
    return "\n".join([*rows, "| all | " + " | ".join(totals) + " |"])
