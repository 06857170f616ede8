"""CUDA graphs, which PyCUDA lacks: functions of the driver, called through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating


class GraphError(Exception):
    """A capture that the driver refused; the same work can run without a graph."""


@cache
def driver_function(name: str) -> Any:
    """Return a function of the driver, looked up once: opening the library takes 40 us.

    Raises:
        GraphError: the driver has no such function.
    """
    try:
        return getattr(ctypes.CDLL("libcuda.so.1"), name)
    except (OSError, AttributeError) as error:
        raise GraphError(f"the driver has no {name}") from error


def call(name: str, *arguments: Any) -> None:
    """Call a function of the driver.

    Raises:
        GraphError: the driver has no such function, or it failed.
    """
    if code := driver_function(name)(*arguments):
        raise GraphError(f"{name} failed with CUDA error {code}")


class CudaGraph:
    """The work that a function enqueues on a stream, captured once and launched as one."""

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
        """Enqueue the captured work."""
        call("cuGraphLaunch", self.executable, ctypes.c_void_p(stream.handle))

    def free(self) -> None:
        """Free the graph; its last launch must be done."""
        call("cuGraphExecDestroy", self.executable)
