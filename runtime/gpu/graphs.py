"""CUDA graphs, which PyCUDA does not know: six calls of the driver through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating


class GraphError(Exception):
    """A capture that the driver refused; the work can go on without it."""


def call(name: str, *arguments: Any) -> None:
    """Call a function of the driver.

    Raises:
        GraphError: the driver has no such function, or it failed.
    """
    try:
        function = getattr(ctypes.CDLL("libcuda.so.1"), name)
    except (OSError, AttributeError) as error:
        raise GraphError(f"the driver has no {name}") from error
    if code := function(*arguments):
        raise GraphError(f"{name} failed with CUDA error {code}")


class CudaGraph:
    """The work that a function enqueues on a stream, recorded once and launched as one."""

    def __init__(self, stream: Any, enqueue: Callable[[], None]) -> None:
        self.executable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        handle = ctypes.c_void_p(stream.handle)
        call("cuStreamBeginCapture_v2", handle, ctypes.c_int(THREAD_LOCAL))
        try:
            enqueue()
        except Exception as error:  # whatever it is, the stream must leave its capture
            raise GraphError(f"the capture failed: {error}") from error
        finally:
            call("cuStreamEndCapture", handle, ctypes.byref(graph))
        try:
            call("cuGraphInstantiateWithFlags", ctypes.byref(self.executable), graph,
                 ctypes.c_ulonglong(0))
        finally:
            call("cuGraphDestroy", graph)

    def launch(self, stream: Any) -> None:
        """Enqueue the recorded work."""
        call("cuGraphLaunch", self.executable, ctypes.c_void_p(stream.handle))

    def free(self) -> None:
        """Free the graph; its last launch must be over."""
        call("cuGraphExecDestroy", self.executable)
