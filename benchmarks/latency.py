"""Latency of exported networks against the first one, all in one run.

Usage: `python -m feredge.benchmarks.latency ENGINE ENGINE [--batch 1,8] [--json FILE]`

The engines alternate round by round, so that a drift of the machine hits all alike; the ratio is
that of the medians. Answers are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.records import write_results
from feredge.runtime import Engine, open_engine

WARM_UP = 3
# onnxruntime's threads spin for a while after a run; the next engine must not share its core with
# them.
SETTLE_S = 0.03


def timed(engine: Engine, crops: np.ndarray[Any, Any]) -> float:
    """Return the seconds of one inference."""
    time.sleep(SETTLE_S)
    start_s = time.perf_counter()
    engine.infer(crops)
    return time.perf_counter() - start_s


def alternated(
    engines: Sequence[Engine], crops: np.ndarray[Any, Any], rounds: int
) -> list[list[float]]:
    """Time the engines in turn, `rounds` times; returns the seconds of each engine."""
    for engine in engines:
        for _ in range(WARM_UP):
            engine.infer(crops)
    samples: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, seconds in zip(engines, samples):
            seconds.append(timed(engine, crops))
    return samples


def same_answers(engines: Sequence[Engine], crops: np.ndarray[Any, Any]) -> float:
    """Return the largest difference of a probability from the first engine's."""
    expected = engines[0].infer(crops)
    return max(float(np.abs(engine.infer(crops) - expected).max()) for engine in engines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engines", nargs="+", type=Path)
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    rows = []
    with ExitStack() as stack:
        engines = [stack.enter_context(open_engine(path)) for path in options.engines]
        side = engines[0].spec.input.side
        for batch in map(int, options.batch.split(",")):
            crops = np.random.default_rng(0).random((batch, 3, side, side), np.float32)
            difference = same_answers(engines, crops)
            samples = alternated(engines, crops, options.rounds)
            medians = [float(np.median(seconds)) for seconds in samples]
            for path, seconds, median in zip(options.engines, samples, medians):
                rows.append({"engine": path.name, "batch": batch, "seconds": seconds,
                             "median_s": median, "speed_up": medians[0] / median})
                print(f"{path.name}: batch {batch}: {median * 1e3:.2f} ms, "
                      f"{medians[0] / median:.2f} times as fast as {options.engines[0].name}")
            print(f"largest difference of a probability: {difference:.4f}")
    write_results(options.json, {"side": side, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
