"""Progress of a TensorRT build on the terminal; Ctrl-C ends the build at its next step."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class Phases:
    """The outermost phases of a build, drawn on a terminal."""

    def __init__(self, quiet: bool) -> None:
        self.draws = sys.stderr.isatty() and not quiet
        self.steps: dict[str, int] = {}

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Note the steps of a phase without a parent."""
        if not parent:
            self.steps[name] = steps

    def show(self, name: str, step: int) -> None:
        """Draw the progress of an outermost phase."""
        if self.draws and name in self.steps:
            print(f"\r\x1b[K  {name} {step + 1}/{self.steps[name]}", end="", file=sys.stderr,
                  flush=True)


def progress_monitor(module: ModuleType, quiet: bool) -> Any:
    """Return a progress monitor of a TensorRT that has them; `interrupted` makes it end the build.

    Args:
        module: `tensorrt` or `tensorrt_rtx`.
        quiet: draw nothing.
    """

    class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.interrupted, self.phases = False, Phases(quiet)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.phases.show(phase_name, step)
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self.phases.steps.pop(phase_name, None)

    return Monitor()


@contextmanager
def allow_interrupt(monitor: Any) -> Iterator[None]:
    """Let Ctrl-C end a build through its monitor.

    TensorRT calls a monitor from C++, where no Python exception may pass: while it builds, the
    signal sets a flag and becomes the exception afterwards.

    Args:
        monitor: from `progress_monitor`; None leaves Ctrl-C as it is.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if monitor is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: setattr(monitor, "interrupted", True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if monitor.interrupted:
            raise KeyboardInterrupt
