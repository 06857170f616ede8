"""History: numbers of past days in SQLite, and the report made of them."""

from __future__ import annotations

from feredge.runtime.history.options import HistoryOptions
from feredge.runtime.history.recorder import HistoryRecorder

__all__ = ["HistoryOptions", "HistoryRecorder"]
