"""Batch runs: a folder too large for one machine, on Ray or on local processes."""

from __future__ import annotations

from feredge.runtime.batch.options import BatchOptions
from feredge.runtime.batch.run import BatchSummary, batch

__all__ = ["BatchOptions", "BatchSummary", "batch"]
