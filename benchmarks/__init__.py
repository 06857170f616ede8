"""Latency and accuracy of exported networks: `fer-bench` and `fer-eval`, from Python too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feredge.benchmarks.bench.options import BenchOptions
    from feredge.benchmarks.bench.run import benchmark
    from feredge.benchmarks.eval.options import EvalOptions
    from feredge.benchmarks.eval.run import evaluate

__all__ = ["BenchOptions", "EvalOptions", "benchmark", "evaluate"]

LAZY = {
    "BenchOptions": "feredge.benchmarks.bench.options",
    "benchmark": "feredge.benchmarks.bench.run",
    "EvalOptions": "feredge.benchmarks.eval.options",
    "evaluate": "feredge.benchmarks.eval.run",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name in LAZY:
        from importlib import import_module

        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
