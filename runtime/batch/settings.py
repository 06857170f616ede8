"""What the rows of an output depend on: recorded once, compared by every later run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from feredge.runtime.batch.options import BatchOptions
from feredge.runtime.batch.storage import OutputFolder
from feredge.runtime.batch.tasks import Job
from feredge.runtime.detect.options import AUTO
from feredge.runtime.errors import EngineError, UsageError

SETTINGS = "_plan/settings.json"
FORMAT = 1


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def engine_path(path: str | None) -> Path:
    """Return the engine's file, the bundled network's if none is named.

    Raises:
        EngineError: it does not exist.
    """
    from feredge.runtime.engines import BUNDLED

    engine = BUNDLED if path is None else Path(path)
    if not engine.is_file():
        raise EngineError(f"engine {engine} is no file; export one with: fer-export --model manet "
                          "--int8")
    return engine


def new_job(options: BatchOptions) -> Job:
    """Return what the workers need, with the files resolved and their hashes.

    Raises:
        EngineError: engine or detector do not exist.
    """
    from feredge.runtime.detect.weights import detector_path

    engine, detector = engine_path(options.engine), detector_path(options.detector.path)
    job = Job(
        sources=options.sources, output=options.output, engine=str(engine.absolute()),
        engine_sha256=file_sha256(engine),
        detector=replace(options.detector, path=str(detector.absolute())),
        detector_sha256=file_sha256(detector), max_faces=options.max_faces, track=options.track,
        landmarks=options.landmarks, segment_s=options.segment_s, settings="",
    )
    return replace(job, settings=json.dumps(settings_of(job), indent=1))


def settings_of(job: Job) -> dict[str, object]:
    """Return what the rows depend on. Sizes of chunks and segments do not change them."""
    return {
        "format": FORMAT,
        "engine": f"{Path(job.engine).name}, SHA-256 {job.engine_sha256}",
        "detector": f"{Path(str(job.detector.path)).name}, SHA-256 {job.detector_sha256}",
        "detector_size": job.detector.size_px or AUTO, "min_face": job.detector.min_face_px,
        "min_score": job.detector.min_score,
        "max_faces": job.max_faces, "track": job.track, "landmarks": job.landmarks,
    }


def check_settings(job: Job, output: OutputFolder) -> None:
    """Compare the settings with those of the output's first run, or record them.

    Raises:
        UsageError: they differ; one output contains one kind of rows.
    """
    recorded = output.read(SETTINGS)
    if recorded is None:
        output.write(SETTINGS, job.settings.encode())
        return
    before, now = json.loads(recorded), json.loads(job.settings)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        changes = "; ".join(f"{name} was {before.get(name)}, is {now.get(name)}" for name in names)
        raise UsageError(f"{output.name} was made with other settings: {changes}; use the same "
                         "ones or another --output")
