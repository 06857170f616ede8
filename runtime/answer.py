"""Answer: what passes from the pipeline to its outputs, one a frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from feredge.runtime.faces import Array, Faces
from feredge.runtime.sources import Frame
from feredge.runtime.tracking import Event


@dataclass
class Answer:
    """What became of one frame, the seconds of each stage, and how old it was after that.

    `found` is all that the detector found, where the frame was `searched`; `faces` are those that
    are shown; `events` tell who came and went. `drawn` is None unless some output `draws`.
    """

    frame: Frame
    searched: bool = True
    found: Faces = field(default_factory=Faces.empty)
    faces: Faces = field(default_factory=Faces.empty)
    events: Sequence[Event] = ()
    drawn: Array | None = None
    times_s: dict[str, float] = field(default_factory=dict)
    ages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time one stage."""
        start_s = time.perf_counter()
        yield
        self.times_s[stage] = time.perf_counter() - start_s
        if (age_ms := self.frame.age_ms) is not None:
            self.ages_ms[stage] = age_ms
