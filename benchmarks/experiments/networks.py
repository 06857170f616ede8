"""Every network of the registry on the same faces: size, latency, and what INT8 changes.

Usage: `python -m feredge.benchmarks.experiments.networks FACES [--count 64] [--rounds 20]
[--json FILE]`

The weights are seeded, so the answers tell nothing of accuracy: they only show that INT8 follows
FP32. The engines alternate round by round, one face at a time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.bench.timing import timed_s
from feredge.benchmarks.eval.records import write_results
from feredge.calibration.face_folder import FaceFolder
from feredge.export.job import ExportOptions, export
from feredge.export.models.registry import known_networks
from feredge.export.network.size import NetworkSize, size_of
from feredge.export.steps import Steps
from feredge.runtime import Engine, open_engine
from feredge.runtime.sources.pictures import find_pictures

WARM_UP = 3
FILES = {"fp32": "{}.onnx", "int8": "{}.int8.onnx"}


def spread(faces: Path, count: int, folder: Path) -> None:
    """Link `count` pictures, evenly spread over a folder, into another one."""
    files = find_pictures(faces)
    for k in np.linspace(0, len(files) - 1, min(count, len(files))).astype(int):
        (folder / f"{k:06}{files[k].suffix}").symlink_to(files[k].resolve())


def alternated(
    engines: Sequence[Engine], crops: Sequence[np.ndarray[Any, Any]], rounds: int
) -> list[list[float]]:
    """Time the engines in turn, each on its own crop of the same face; returns the seconds."""
    samples: list[list[float]] = [[] for _ in engines]
    for k in range(WARM_UP + rounds):
        for engine, faces, seconds in zip(engines, crops, samples):
            face = k % len(faces)
            seconds.append(timed_s(partial(engine.infer, faces[face : face + 1])))
    return [seconds[WARM_UP:] for seconds in samples]


def measured(
    sizes: Sequence[NetworkSize], faces: Path, folder: Path, rounds: int
) -> list[dict[str, Any]]:
    """Export each network with seeded weights and time its graphs; returns a row a network."""
    reports = [export(ExportOptions(size.name, random_weights=True, int8=True, output=str(folder),
                                    calibration_data=str(faces)), Steps())["int8"]
               for size in sizes]
    with ExitStack() as stack:
        engines = [stack.enter_context(open_engine(folder / file.format(size.name)))
                   for size in sizes for file in FILES.values()]
        crops = [next(FaceFolder(faces, engine.spec.input, engine.spec.crop).batches())
                 for engine in engines]
        samples = iter(alternated(engines, crops, rounds))
    rows = []
    for size, report in zip(sizes, reports):
        row = {"network": size.name, "side": size.side, "parameters": size.parameters,
               "macs": size.macs, "int8": report[f"{size.name}.int8.onnx"],
               "int8_tensorrt": report[f"{size.name}.int8.qdq.onnx"]}
        for precision in FILES:
            seconds = next(samples)
            row |= {f"{precision}_seconds": seconds,
                    f"{precision}_median_s": float(np.median(seconds))}
        rows.append(row)
    return rows


def row_text(row: dict[str, Any]) -> str:
    """Return what the terminal shows of a network."""
    fp32, int8 = row["fp32_median_s"], row["int8_median_s"]
    agreement = row["int8"]["agreement"]
    return (f"{row['network']}: {row['parameters'] / 1e6:.2f} M parameters, "
            f"{row['macs'] / 1e9:.2f} GMAC, FP32 {fp32 * 1e3:.1f} ms, INT8 {int8 * 1e3:.1f} ms "
            f"({fp32 / int8:.2f} times as fast), same label {agreement['top1']:.1%}, mean change "
            f"{agreement['mean_change']:.4f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path, help="pictures of faces")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--networks", nargs="+", help="some of them (all)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    sizes = [size_of(network) for network in known_networks().values()
             if network.name in (options.networks or known_networks())]
    with tempfile.TemporaryDirectory() as name:
        faces, output = Path(name) / "faces", Path(name) / "exported"
        faces.mkdir()
        spread(options.faces, options.count, faces)
        rows = measured(sizes, faces, output, options.rounds)
    for row in rows:
        print(row_text(row))
    write_results(options.json, {"faces": options.count, "of": options.faces.name, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
