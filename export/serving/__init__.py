"""Folders for inference servers: one file per server, each with `write(served, folder)`."""

from __future__ import annotations

from pathlib import Path

from feredge.export.serving import deepstream, triton
from feredge.export.serving.base import ServedModel, plan_for_servers

WRITERS = {"triton": triton.write, "deepstream": deepstream.write}

__all__ = ["WRITERS", "ServedModel", "plan_for_servers", "write_serving"]


def write_serving(kind: str, served: ServedModel, folder: Path) -> None:
    """Write what a server needs.

    Args:
        kind: a key of `WRITERS`.
        served: the exported network.
        folder: must not exist yet.
    """
    folder.mkdir(parents=True)
    WRITERS[kind](served, folder)
