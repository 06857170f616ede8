"""Outputs of an interactive run: lines on the terminal, a progress line, a window."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

import cv2

from feredge.runtime.errors import OutputError
from feredge.runtime.outputs.base import escape, face_record
from feredge.runtime.results import Array, FrameResult
from feredge.runtime.sources.base import Source

PROGRESS_S = 0.5  # between two updates of the progress line
PROBE = "import cv2; cv2.namedWindow('feredge'); cv2.destroyAllWindows()"
PROBE_S = 30.0
NO_WINDOW = ("no window can be opened here: there is no screen, or this cv2 has no display; use "
             "`output` or `jsonl` instead of `display`")


class Text:
    """One line per face on standard output."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels

    def write(self, result: FrameResult) -> None:
        """Print the faces of one frame."""
        frame, faces = result.frame, result.faces
        where = escape(frame.source) + (f" frame {frame.index}" if frame.time_s else "")
        if not len(faces):
            print_line(f"{where}: no face")
        for k in range(len(faces)):
            face = face_record(faces, k, self.labels)
            corners = ", ".join(f"{edge:.0f}" for edge in face["box"])
            track = f"{face['track']}: " if face["track"] else ""
            label = "unsure" if face["label"] is None else (
                f"{face['label']} {face['probability']:.1%}")
            print_line(f"{where}: {track}{label} at {corners}")

    def close(self) -> None:
        """Do nothing: no resource is held."""


def print_line(text: str) -> None:
    """Print a line on standard output; characters that it cannot encode are escaped.

    Raises:
        OutputError: standard output cannot be written.
        BrokenPipeError: the reader of standard output has ended.
    """
    if sys.stdout is None:
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {error.strerror}") from error


class Progress:
    """The number of completed frames, on the last line of the terminal."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.printed_s = total, 0, 0.0

    def write(self, result: FrameResult) -> None:
        """Count one frame; print the count twice a second."""
        self.done += 1
        if time.monotonic() - self.printed_s > PROGRESS_S:
            self.printed_s = time.monotonic()
            of_total = f"/{self.total}" if self.total else ""
            print(f"\r{self.done}{of_total} frames", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clear the line."""
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def check_window() -> None:
    """Check that a window can be opened, in a process of its own: without a screen, Qt aborts it.

    Raises:
        OutputError: it cannot.
    """
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=PROBE_S)
    except subprocess.TimeoutExpired as error:
        raise OutputError(NO_WINDOW) from error
    if done.returncode:
        raise OutputError(NO_WINDOW)


class Window:
    """A window on the screen of this machine; several sources have one each.

    Raises:
        OutputError: no window can be opened.
    """

    TITLE = "feredge: press q to quit"

    def __init__(self, source: Source) -> None:
        self.source, self.wait_ms = source, 1 if source.is_ordered else 0
        self.has_names = len(source.parts) > 1
        check_window()

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Show one frame, `(h, w, 3)` uint8; a picture stays until a key is pressed.

        Raises:
            OutputError: no window can be opened.
        """
        title = f"{self.TITLE} ({result.frame.source})" if self.has_names else self.TITLE
        try:
            cv2.imshow(title, annotated_bgr)
            key = cv2.waitKey(self.wait_ms) & 0xFF
            is_open = cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error as error:
            raise OutputError(NO_WINDOW) from error
        if key == ord("q") or not is_open:
            self.source.stop()

    def close(self) -> None:
        """Close the window."""
        with suppress(cv2.error):  # a cv2 without a display
            cv2.destroyAllWindows()
