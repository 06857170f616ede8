"""What a long export shows while it runs, and how long each part took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from feredge.calibration.face_folder import FaceFolder
from feredge.runtime.results import Array

Batch = TypeVar("Batch", Array, tuple[Array, Array])


class Steps:
    """Names each step on stderr, times it, and draws bars for those over many faces."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step."""
        live = sys.stderr.isatty() and not self.quiet
        if live:
            print(f"  {name} ...", end="", file=sys.stderr, flush=True)
        start_s = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start_s, 2)
        if not self.quiet:
            start = "\r\x1b[K" if live else ""
            print(f"{start}  {name}: {self.seconds[name]:.1f} s", file=sys.stderr)

    def bar(self, batches: Iterable[Batch], faces: FaceFolder) -> Iterator[Batch]:
        """Pass batches through and show how many faces have gone by, where somebody watches."""
        from tqdm import tqdm  # not on a device that only builds a plan

        hidden = True if self.quiet else None  # None: hidden unless stderr is a terminal
        with tqdm(total=len(faces.files), unit="face", disable=hidden, leave=False) as shown:
            for batch in batches:
                yield batch
                shown.update(len(batch[0] if isinstance(batch, tuple) else batch))
