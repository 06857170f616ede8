"""Every network of the registry on the same faces: size, latency, and agreement of INT8.

Usage: `python -m feredge.benchmarks.experiments.networks FACES [--count 64] [--rounds 20]
[--json FILE]`

The weights are random with a fixed seed: the predictions show that INT8 follows FP32, not accuracy.
The engines run in turn, one face per inference.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.bench.timing import alternate, time_run, warm_up
from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.calibration.face_folder import FaceFolder
from feredge.export import ExportOptions, export
from feredge.export.models.registry import known_networks
from feredge.export.network.size import NetworkSize, size_of
from feredge.runtime import Engine, open_engine
from feredge.runtime.sources.pictures import find_pictures

FILES = {"fp32": "{}.onnx", "int8": "{}.int8.onnx"}


def link_pictures(faces: Path, count: int, folder: Path) -> None:
    """Link `count` pictures, evenly spaced in the order of their names, into another folder."""
    files = find_pictures(faces)
    for k in np.linspace(0, len(files) - 1, min(count, len(files))).astype(int):
        (folder / f"{k:06}{files[k].suffix}").symlink_to(files[k].resolve())


def face_by_face(engine: Engine, faces: Path) -> Callable[[], object]:
    """Return a function that classifies one face, the next one at each call."""
    crops = next(FaceFolder(faces, engine.spec.input, engine.spec.crop).batches())
    next_face = cycle(crops[k : k + 1] for k in range(len(crops)))
    return lambda: engine.infer(next(next_face))


def time_engines(paths: Sequence[Path], faces: Path, rounds: int) -> list[list[float]]:
    """Return the seconds per face of every engine, in turn and on the same faces."""
    with ExitStack() as stack:
        runs = [face_by_face(stack.enter_context(open_engine(path)), faces) for path in paths]
        for run in runs:
            warm_up(run, 0)
        return alternate([partial(time_run, run) for run in runs], least_rounds=rounds)


def export_network(size: NetworkSize, faces: Path, folder: Path) -> dict[str, Any]:
    """Export a network with random weights and INT8; returns the INT8 part of the report."""
    options = ExportOptions(size.name, random_weights=True, int8=True, output=str(folder),
                            calibration_data=str(faces))
    report: dict[str, Any] = export(options)["int8"]
    return report


def size_row(size: NetworkSize, report: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a network's row that is not timed."""
    return {"network": size.name, "side": size.side, "parameters": size.parameters,
            "macs": size.macs, "int8": report[f"{size.name}.int8.onnx"],
            "int8_tensorrt": report[f"{size.name}.int8.qdq.onnx"]}


def measure_networks(
    sizes: Sequence[NetworkSize], faces: Path, folder: Path, rounds: int
) -> list[dict[str, Any]]:
    """Export every network and time its graphs; returns one row per network."""
    rows = [size_row(size, export_network(size, faces, folder)) for size in sizes]
    paths = [folder / file.format(size.name) for size in sizes for file in FILES.values()]
    samples = iter(time_engines(paths, faces, rounds))
    for row in rows:
        for precision in FILES:
            seconds = next(samples)
            row |= {f"{precision}_seconds": seconds,
                    f"{precision}_median_s": float(np.median(seconds))}
    return rows


def row_text(row: dict[str, Any]) -> str:
    """Return a row as text."""
    fp32, int8 = row["fp32_median_s"], row["int8_median_s"]
    agreement = row["int8"]["agreement"]
    return (f"{row['network']}: {row['parameters'] / 1e6:.2f} M parameters, "
            f"{row['macs'] / 1e9:.2f} GMAC, FP32 {fp32 * 1e3:.1f} ms, INT8 {int8 * 1e3:.1f} ms "
            f"(speed-up {fp32 / int8:.2f}), top-1 agreement {agreement['top1']:.1%}, mean change "
            f"{agreement['mean_change']:.4f}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("faces", type=Path, help="pictures of faces")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--networks", nargs="+", help="names of networks (all)")


def measure(options: argparse.Namespace) -> Results:
    """Measure the networks that were asked for."""
    sizes = [size_of(network) for network in known_networks().values()
             if network.name in (options.networks or known_networks())]
    with tempfile.TemporaryDirectory() as name:
        faces, output = Path(name) / "faces", Path(name) / "exported"
        faces.mkdir()
        link_pictures(options.faces, options.count, faces)
        rows = measure_networks(sizes, faces, output, options.rounds)
    return {"faces": options.count, "of": options.faces.name, "rows": rows}


def describe(results: Results) -> str:
    """Return the results as text."""
    return "\n".join(map(row_text, results["rows"]))


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
