"""The options of a batch run."""

from __future__ import annotations

from dataclasses import dataclass, field

from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.errors import UsageError

LOCAL, NONE = "local", "none"  # values of `ray`; all others are addresses of a cluster


@dataclass(frozen=True)
class BatchOptions:
    """What a batch run reads, how, and where it writes.

    Attributes:
        sources: folders, globs, lists (`.txt`), pictures, videos, Parquet files; paths or URIs.
        output: the folder for the Parquet files; a path or a URI.
        engine: an ONNX file or a plan, at the same path on every machine; None is the bundled
            network.
        detector: the face detector and its limits.
        max_faces: keep the best N faces per picture; None keeps all.
        track: number the persons in videos and smooth their probabilities.
        landmarks: write size, sharpness, roll and yaw of each face beside its landmarks.
        segment_s: longer videos are divided into segments of so many seconds.
        chunk: pictures per task and output file, at most.
        workers: None is one per CPU core, with a plan one per GPU.
        ray: `local` starts Ray here, `none` uses processes, `auto` or an address joins a cluster.
        retries: how often an input that ends its worker process is tried again.

    Raises:
        UsageError: a value is out of range.
    """

    sources: tuple[str, ...]
    output: str
    engine: str | None = None
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    max_faces: int | None = None
    track: bool = True
    landmarks: bool = False
    segment_s: float = 60.0
    chunk: int = 512
    workers: int | None = None
    ray: str = LOCAL
    retries: int = 2

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.sources:
            raise UsageError("no source was given: pass --source")
        if not self.segment_s > 0:
            raise UsageError(f"segments of {self.segment_s} s: expected more than 0 s")
        for name in ("chunk", "workers", "max_faces", "retries"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, expected 1 or more")
