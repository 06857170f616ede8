"""Outputs: annotated pictures and videos, JSON lines, CSV, the terminal, a window."""
