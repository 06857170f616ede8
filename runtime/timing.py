"""Durations of the pipeline's stages, and the summary of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from feredge.runtime.results import FrameResult

STAGES = ("read", "detect", "classify", "track", "draw", "write")


class Latencies:
    """Durations in bins 2 % wide, so that percentiles need constant memory."""

    def __init__(self) -> None:
        self.counts = np.zeros(1024, np.int64)

    def add(self, seconds: float) -> None:
        """Count one duration, 1 us to 10 min."""
        self.counts[min(int(np.log(max(seconds, 1e-6) / 1e-6) / 0.02), 1023)] += 1

    def percentile_ms(self, percent: float) -> float | None:
        """Return a percentile within 1 %; None without samples."""
        total = self.counts.sum()
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self.counts), total * percent / 100))
        return float(1e-3 * np.exp((place + 0.5) * 0.02))


@dataclass(frozen=True)
class StageTime:
    """Median and 95th percentile of a stage, in ms per frame that went through it.

    `age_ms` is the median age of a live frame after the stage. The classification of several frames
    in one batch counts in full for each of them.
    """

    median_ms: float
    p95_ms: float
    age_ms: float | None = None


class StageTimes:
    """The durations of all stages, and the ages of live frames after them."""

    def __init__(self) -> None:
        self.times = {stage: Latencies() for stage in STAGES}
        self.ages = {stage: Latencies() for stage in STAGES}

    def add(self, result: FrameResult) -> None:
        """Count the stages of one frame."""
        for stage, seconds in result.times_s.items():
            self.times[stage].add(seconds)
        for stage, age_ms in result.ages_ms.items():
            self.ages[stage].add(age_ms / 1e3)

    def summary(self) -> dict[str, StageTime]:
        """Return the stages that have samples."""
        stages = {}
        for stage, times in self.times.items():
            median_ms, p95_ms = times.percentile_ms(50), times.percentile_ms(95)
            if median_ms is not None and p95_ms is not None:
                age_ms = self.ages[stage].percentile_ms(50)
                stages[stage] = StageTime(round(median_ms, 3), round(p95_ms, 3),
                                          None if age_ms is None else round(age_ms, 3))
        return stages


@dataclass(frozen=True)
class Summary:
    """The totals of a run.

    Attributes:
        frames: frames that were processed.
        dropped: frames that a live source dropped.
        faces: faces in all frames.
        unsure: faces without a label, because their confidence is too low.
        seconds: the duration of the run.
        frames_per_s: the mean frame rate.
        stages: the durations of each stage.
        problems: one line per input that could not be read completely; not part of the JSON.
    """

    frames: int
    dropped: int
    faces: int
    unsure: int
    seconds: float
    frames_per_s: float
    stages: Mapping[str, StageTime]
    problems: tuple[str, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, object]:
        """Return the totals as JSON types."""
        document = asdict(self)
        del document["problems"]
        return document

    def __str__(self) -> str:
        """Return the totals as two lines of text."""
        dropped = f" ({self.dropped} dropped)" if self.dropped else ""
        unsure = f" ({self.unsure} unsure)" if self.unsure else ""
        stages = ", ".join(
            f"{name} {stage.median_ms:.1f} ({stage.p95_ms:.1f})"
            for name, stage in self.stages.items()
        )
        return (f"{self.frames} frames{dropped}, {self.faces} faces{unsure}, "
                f"{self.frames_per_s:.1f} frames/s over {self.seconds:.1f} s\n"
                f"median (95th percentile) ms: {stages}")
