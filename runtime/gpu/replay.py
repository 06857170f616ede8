"""Replay: launches that come again and again are captured as a CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from feredge.runtime.gpu.graphs import CudaGraph, GraphError

if TYPE_CHECKING:
    from feredge.runtime.gpu.device import Gpu

MAX_GRAPHS = 32  # a folder of pictures of all sizes must not fill the GPU with graphs


class Replay:
    """Run the same launches again and again, as a CUDA graph from the second run of a key on.

    The first run makes the allocations that a capture forbids, and a key that comes once is not
    worth a graph. What belongs to a key must not change: a graph keeps its addresses, shapes and
    kernel arguments.
    """

    def __init__(self, gpu: Gpu, enabled: bool) -> None:
        self.gpu, self.enabled = gpu, enabled
        self.seen: set[Hashable] = set()
        self.graphs: dict[Hashable, CudaGraph] = {}

    def run(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        """Enqueue the launches that belong to a key, or replay them."""
        if not self.enabled:
            enqueue()
        elif key in self.graphs:
            self.graphs[key].launch(self.gpu.stream)
        elif key in self.seen:
            self.capture(key, enqueue)
        else:
            self.note(key)
            enqueue()

    def note(self, key: Hashable) -> None:
        """Record that a key was run once."""
        if len(self.seen) >= MAX_GRAPHS * 8:
            self.seen = set(self.graphs)
        self.seen.add(key)

    def capture(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        """Capture the launches and run them; without graphs after the first failure."""
        if len(self.graphs) >= MAX_GRAPHS:
            self.clear()
        self.gpu.stream.synchronize()
        try:
            self.graphs[key] = CudaGraph(self.gpu.stream, enqueue)
        except GraphError as error:
            self.enabled = False
            warnings.warn(f"no CUDA graphs: {error}", stacklevel=2)
            enqueue()
            return
        self.graphs[key].launch(self.gpu.stream)

    def clear(self) -> None:
        """Wait for the stream and free every graph."""
        self.gpu.stream.synchronize()
        for graph in self.graphs.values():
            graph.free()
        self.graphs.clear()
        self.seen.clear()
