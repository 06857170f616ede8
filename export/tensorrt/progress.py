"""How far a TensorRT build is, on the terminal; Ctrl-C ends it at its next step."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


def progress_monitor(module: ModuleType, quiet: bool) -> Any:
    """Return a progress monitor of a TensorRT that has them; `interrupted` makes it end the build.

    Args:
        module: `tensorrt` or `tensorrt_rtx`.
        quiet: draw nothing.
    """

    class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Shows the outermost phases, those without a parent."""

        def __init__(self) -> None:
            super().__init__()
            self.interrupted = False
            self.live = sys.stderr.isatty() and not quiet
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Note the steps of an outermost phase."""
            if not parent_phase:
                self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Draw, and say whether the build goes on."""
            if self.live and phase_name in self.steps:
                print(f"\r\x1b[K  {phase_name} {step + 1}/{self.steps[phase_name]}", end="",
                      file=sys.stderr, flush=True)
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            """Forget a phase."""
            self.steps.pop(phase_name, None)

    return Monitor()


@contextmanager
def interruptible(monitor: Any) -> Iterator[None]:
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
