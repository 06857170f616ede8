"""The options of the outputs and of the live page.

Messages name a parameter in backquotes; a command prints it as its flag.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from feredge.runtime.environment import has_screen
from feredge.runtime.errors import UsageError
from feredge.runtime.outputs.base import Bars


@dataclass(frozen=True)
class OutputOptions:
    """Where results go.

    Attributes:
        output: the annotated picture, folder or video, as the source is one; a folder of videos
            for several sources.
        jsonl: a file with one JSON object per frame; `-` is standard output.
        csv: a file with one row per face; `-` is standard output.
        summary: a JSON file with the time in view and the shares of the expressions per track.
        display: show a window.
        text: print one line per face on standard output.
        progress: print the number of frames on the last line of the terminal.
        no_images: refuse every output that shows pictures.
        blur: pixelate the faces in everything that is written or shown.
        bars: draw a bar per class: `auto`: where there is free room beside the face; `on`: also
            over other faces; `off`: none.
        landmarks: write the landmarks of each face, its size, sharpness, roll and yaw to `jsonl`
            and `csv`.
    """

    output: str | Path | None = None
    jsonl: str | None = None
    csv: str | None = None
    summary: str | None = None
    display: bool = False
    text: bool = False
    progress: bool = False
    no_images: bool = False
    blur: bool = False
    bars: Bars = "auto"
    landmarks: bool = False

    def __post_init__(self) -> None:
        """Check that the outputs fit together.

        Raises:
            UsageError: they do not.
        """
        shown = "output" if self.output else "display" if self.display else None
        if self.no_images and shown:
            raise UsageError(f"`{shown}` shows images and `no_images` excludes them: leave out one "
                             "of them, or hide faces with `blur`")
        if self.jsonl == self.csv == "-":
            raise UsageError("`jsonl` and `csv` cannot both be standard output: name a file for "
                             "one of them")
        if self.landmarks and not (self.jsonl or self.csv):
            raise UsageError("`landmarks` needs `jsonl` or `csv`, which they are written to")

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the outputs to a command."""
        parser.add_argument("--output", metavar="PATH",
                            help="annotated picture, folder or video, as the source is one; a "
                                 "folder of videos for several sources; gst:PIPELINE encodes a "
                                 "video with GStreamer")
        parser.add_argument("--jsonl", metavar="PATH",
                            help="one JSON object per frame; - is standard output")
        parser.add_argument("--csv", metavar="PATH",
                            help="one row per face; - is standard output")
        parser.add_argument("--summary", metavar="PATH",
                            help="JSON: the time in view and the shares of the expressions per "
                                 "track")
        parser.add_argument("--display", action=argparse.BooleanOptionalAction,
                            help="a window (default: if there is a screen and no other output)")
        parser.add_argument("--no-images", action="store_true",
                            help="write and show numbers only: no picture, video or window")
        parser.add_argument("--blur", action="store_true",
                            help="pixelate the faces in everything that is written or shown")
        parser.add_argument("--bars", choices=("auto", "on", "off"), default=cls.bars,
                            help="a bar per class beside each face: auto draws it where there is "
                                 "free room, on also over other faces (auto)")
        parser.add_argument("--landmarks", action="store_true",
                            help="write eyes, nose and corners of the mouth, size, sharpness, roll "
                                 "and yaw of each face to --jsonl and --csv")

    def files(self) -> dict[str, str | Path]:
        """Return the path of each output file by its parameter, without standard output."""
        paths = {"output": self.output, "jsonl": self.jsonl, "csv": self.csv,
                 "summary": self.summary}
        return {name: path for name, path in paths.items()
                if path and path != "-" and not str(path).startswith("gst:")}

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> OutputOptions:
        """Return the options that were parsed from the arguments of `add_arguments`.

        Without any output there is a window, if there is a screen, else text.
        """
        a = arguments
        is_written = bool(a.output or a.jsonl or a.csv or a.summary or a.json or a.history
                          or a.serve is not None or a.publish is not None)
        display = a.display
        if display is None:
            display = not is_written and not a.no_images and has_screen()
        return cls(a.output, a.jsonl, a.csv, a.summary, display, not is_written and not display,
                   is_written and sys.stderr.isatty(), a.no_images, a.blur, a.bars, a.landmarks)


@dataclass(frozen=True)
class PageOptions:
    """The live page; it stays open after a recorded source has ended, until that is stopped.

    Attributes:
        serve: `HOST:PORT`, or a part of it; empty is 127.0.0.1:8080. None: no page.
        token: the secret that other machines need; `@FILE` reads it from a file.
    """

    serve: str | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        """Check that a token has a page.

        Raises:
            UsageError: it has none.
        """
        if self.token is not None and self.serve is None:
            raise UsageError("`token` needs `serve`")

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add `--serve` and `--token` to a command."""
        group = parser.add_argument_group("live page (extra: serve)")
        group.add_argument("--serve", nargs="?", const="", metavar="HOST:PORT",
                           help="show results in a browser (127.0.0.1:8080), with /metrics and "
                                "/healthz")
        group.add_argument("--token", metavar="SECRET",
                           help="the secret that other machines need; @FILE reads it from a file")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> PageOptions:
        """Return the options that were parsed from the arguments of `add_arguments`."""
        return cls(arguments.serve, arguments.token)
