"""What passes between the driver and its workers: the job, tasks and their outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from feredge.runtime.detect.options import DetectorOptions

PICTURES, ROWS, VIDEO = "pictures", "rows", "video"  # kinds of planned chunks
SEGMENT, JOIN = "segment", "join"  # kinds that a long video becomes
SEGMENTS = "_segments"  # the folder of the frames that are not joined yet


@dataclass(frozen=True)
class Job:
    """What every worker needs: paths and options, all of them small.

    `engine_sha256` and `detector_sha256` are compared with the files on the worker's machine.
    """

    sources: tuple[str, ...]
    output: str
    engine: str
    engine_sha256: str
    detector: DetectorOptions
    detector_sha256: str
    max_faces: int | None
    track: bool
    landmarks: bool
    segment_s: float
    settings: str

    @property
    def is_on_gpu(self) -> bool:
        """Whether a worker needs a part of a GPU."""
        return any(str(path).endswith(".plan") for path in (self.engine, self.detector.path))


@dataclass(frozen=True)
class Task:
    """One unit of scheduling.

    `chunk` names the output file, `units` are the inputs. `part` of `parts` is the segment of a
    video. After its worker ended, a task is `careful`: it writes down which unit it works on, and
    writes error rows for the units in `skip`.
    """

    kind: str
    chunk: str
    units: tuple[str, ...]
    part: int = 0
    parts: int = 1
    careful: bool = False
    skip: Mapping[int, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A name that no other task has; also the names of its journal and segment files."""
        return f"{self.chunk}-{self.kind}-{self.part:06}-{self.parts:06}"


@dataclass
class Outcome:
    """What a task did: rows written, seconds by stage, and the parts that a video needs.

    `failure` ends the run: the engine cannot be opened, the output cannot be written.
    """

    rows: int = 0
    faces: int = 0
    errors: int = 0
    parts: int = 0
    failure: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def segment_name(chunk: str, part: int, parts: int) -> str:
    """Return the name of a segment's file in its folder; the parts are equally long."""
    return f"{chunk}-{part:06}-{parts:06}.parquet"
