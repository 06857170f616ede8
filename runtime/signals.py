"""End a run on Ctrl-C, SIGTERM and SIGHUP, also while native code does not return.

Python runs signal handlers between its own instructions, so a call into C++ that does not return
delays them for ever. The interpreter itself, however, writes each signal to a file descriptor at
once, and a thread waits for that.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from feredge.runtime.sources.base import Source

DEADLINE_S = 1.4  # from the signal to the end of the current frame
CLOSING_S = 0.3  # for closing the outputs after that
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
                if hasattr(signal, name))  # Windows has no SIGHUP


class RunSignals:
    """A context in which signals end the run.

    Before the source is open, a signal ends the process at once with exit code 0. While the engine
    is opened, it has its default action: nothing needs to be completed, and the interpreter may be
    blocked. After that the run ends after the current frame, with exit code 0; if that takes too
    long, the outputs are closed and the process ends with 128 and the number of the signal.

    Args:
        on_timeout: closes the outputs if the run does not end in time.
    """

    def __init__(self, on_timeout: Callable[[], None]) -> None:
        self.on_timeout = on_timeout
        self.source: Source | None = None
        self.ended = threading.Event()
        self.reader, self.writer = socket.socketpair()

    def __enter__(self) -> RunSignals:
        """Install the handlers; outside the main thread Python does not allow that."""
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.handle) for number in SIGNALS}
            self.writer.setblocking(False)
            self.wakeup = signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self.watch, name="signals", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the handlers."""
        self.ended.set()
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.before:
            signal.set_wakeup_fd(self.wakeup)
        else:
            self.reader.close()
        self.writer.close()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Stop the source, or exit if there is none yet."""
        if self.source is None:
            raise SystemExit(0)
        self.source.stop()

    def use_default_actions(self) -> None:
        """Let a signal end the process in the kernel, until `stop_source` is called."""
        for number in self.before:
            signal.signal(number, signal.SIG_DFL)

    def stop_source(self, source: Source) -> None:
        """Let signals stop a source from now on."""
        self.source = source
        for number in self.before:
            signal.signal(number, self.handle)

    def watch(self) -> None:
        """Wait for a signal, and end the process if the run does not end in time."""
        with self.reader:
            received = self.reader.recv(1)
        if received and not self.ended.wait(DEADLINE_S) and self.source is not None:
            closing = threading.Thread(target=self.on_timeout, daemon=True)
            closing.start()
            closing.join(CLOSING_S)
            os._exit(128 + received[0])
