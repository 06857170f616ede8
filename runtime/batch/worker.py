"""The worker: opens engine and detector once, and turns tasks into output files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from feredge.runtime.batch import schema
from feredge.runtime.batch.pictures import PictureReader
from feredge.runtime.batch.segments import join_parts, probe_parts, segment_rows
from feredge.runtime.batch.settings import file_sha256
from feredge.runtime.batch.storage import WORK, FileSystems, OutputFolder, first_line
from feredge.runtime.batch.tasks import (
    JOIN,
    ROWS,
    SEGMENT,
    SEGMENTS,
    VIDEO,
    Job,
    Outcome,
    Task,
    segment_name,
)
from feredge.runtime.detect.base import Detector
from feredge.runtime.errors import EngineError, FeredgeError, SourceError
from feredge.runtime.quality import with_sharpness
from feredge.runtime.results import Array, Faces


class TimedDetector(Detector):
    """A detector that adds up its time, so that one call of `classify` gives two times."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.seconds = detector, 0.0

    def detect(self, frame_bgr: Array) -> Faces:
        """Find the faces of a frame, `(h, w, 3)` uint8; see `Detector.detect`."""
        start_s = time.perf_counter()
        faces = self.detector.detect(frame_bgr)
        self.seconds += time.perf_counter() - start_s
        return faces

    def close(self) -> None:
        """Free the detector."""
        self.detector.close()


class Worker:
    """Runs tasks, one at a time, on one CPU core or a part of a GPU.

    What cannot be opened fails at the first task, so that the error reaches the driver.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tools: Tools | None = None

    def prepare(self) -> bool:
        """Open engine and detector, and return whether that succeeded."""
        try:
            self.open()
        except (FeredgeError, OSError):
            return False
        return True

    def open(self) -> Tools:
        """Open engine, detector and output, once."""
        if self.tools is None:
            self.tools = Tools(self.job)
        return self.tools

    def run(self, task: Task) -> Outcome:
        """Run a task; what ends the whole run is returned as `Outcome.failure`."""
        try:
            return TaskRun(task, self.job, self.open()).run()
        except FeredgeError as error:
            return Outcome(failure=str(error))
        except OSError as error:  # inputs' errors are rows: this is the output's
            return Outcome(failure=f"{self.job.output} cannot be written: {first_line(error)}")
        except Exception as error:  # a fault of the code: repeating it would not help
            return Outcome(failure=f"{task.units[0]}: {type(error).__name__}: {error}")


class Tools:
    """The open engine, detector, file systems and output of a worker.

    Raises:
        EngineError: a file cannot be opened, is not the driver's, or the network is untrained.
    """

    def __init__(self, job: Job) -> None:
        import cv2

        from feredge.runtime import open_detector, open_engine

        cv2.setNumThreads(1)  # the workers share the cores
        check_same("engine", job.engine, job.engine_sha256)
        self.engine = open_engine(job.engine, threads=1)
        if self.engine.spec.source.random_weights:
            raise EngineError(f"{job.engine} has random weights, so that its labels mean nothing: "
                              "export it with --checkpoint")
        check_same("detector", str(job.detector.path), job.detector_sha256)
        self.detector = TimedDetector(open_detector(job.detector, self.engine, threads=1))
        self.files = FileSystems(job.sources)
        self.output = OutputFolder(job.output)
        metadata = {schema.SPEC_KEY: self.engine.spec.to_json(),
                    schema.SETTINGS_KEY: job.settings}
        self.labels = self.engine.spec.labels
        self.schema = schema.new_schema(self.labels, metadata, job.landmarks)


def check_same(what: str, path: str, sha256: str) -> None:
    """Compare a file on this machine with the driver's.

    Raises:
        EngineError: it is missing here or differs.
    """
    if not Path(path).is_file():
        raise EngineError(f"{what} {path} does not exist on the machine of a worker: use a path "
                          "that all machines share")
    if file_sha256(Path(path)) != sha256:
        raise EngineError(f"{what} {path} on the machine of a worker is another file than the "
                          "driver's: copy it to all machines")


class TaskRun:
    """One task on its way: its rows, counts and times."""

    def __init__(self, task: Task, job: Job, tools: Tools) -> None:
        self.task, self.job, self.tools = task, job, tools
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Run the task and return what it did."""
        kinds: dict[str, Callable[[], None]] = {
            VIDEO: self.run_video, SEGMENT: self.run_segment, JOIN: self.run_join,
        }
        kinds.get(self.task.kind, self.run_pictures)()
        return self.outcome

    @contextmanager
    def measure_stage(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(stage, time.perf_counter() - start_s)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add a time to a stage."""
        self.outcome.seconds[stage] = self.outcome.seconds.get(stage, 0.0) + seconds

    def note(self, position: int) -> None:
        """Write down what is worked on, where a worker ended here before."""
        if self.task.careful:
            name = f"{WORK}/{self.task.key}"
            with self.tools.output.place.fs.open_output_stream(
                    self.tools.output.path(name)) as stream:
                stream.write(str(position).encode())

    def classify(self, frame_bgr: Array) -> Faces:
        """Return the classified faces of a frame, `(h, w, 3)` uint8."""
        from feredge.runtime import classify

        detector, start_s = self.tools.detector, time.perf_counter()
        before_s = detector.seconds
        faces = classify(frame_bgr, detector, self.tools.engine, self.job.max_faces)
        detect_s = detector.seconds - before_s
        self.add_seconds("detect", detect_s)
        self.add_seconds("classify", time.perf_counter() - start_s - detect_s)
        return with_sharpness(frame_bgr, faces) if self.job.landmarks else faces

    def run_pictures(self) -> None:
        """Write one row per picture."""
        reader = PictureReader(self.tools.files, self.task.kind, self.task.units,
                               ahead=not self.task.careful)
        with reader:
            rows = [self.picture_row(k, unit, reader) for k, unit in enumerate(self.task.units)]
        self.write(f"{self.task.chunk}.parquet", rows)
        self.count(rows)

    def picture_row(self, k: int, unit: str, reader: PictureReader) -> schema.Row:
        """Return the row of one picture, an error row if it cannot be read or classified."""
        source = unit.rpartition("#")[0] if self.task.kind == ROWS else unit
        if k in self.task.skip:
            return schema.error_row(unit, source, self.task.skip[k])
        self.note(k)
        try:
            with self.measure_stage("read"):
                picture_bgr = reader.read(k)
            faces = self.classify(picture_bgr)
        except SourceError as error:
            return schema.error_row(unit, source, str(error))
        except Exception as error:  # of a library, about one picture
            return schema.error_row(unit, source, f"{type(error).__name__}: {error}")
        return schema.new_row(unit, source, picture_bgr, faces, self.tools.labels)

    def run_video(self) -> None:
        """Return the number of segments; a video of one is finished here."""
        parts = 1
        if not self.task.skip:
            self.note(0)
            parts = probe_parts(self.tools.files, self.task.units[0], self.job.segment_s)
        if parts > 1:
            self.outcome.parts = parts
        else:
            self.run_segment()
            self.run_join()

    def run_segment(self) -> None:
        """Write the classified frames of a segment, without tracks."""
        task = self.task
        if task.skip:
            text = next(iter(task.skip.values()))
            rows = [schema.error_row(task.units[0], task.units[0], text)]
        else:
            rows = segment_rows(self)
        self.write(f"{SEGMENTS}/{segment_name(task.chunk, task.part, task.parts)}", rows)

    def run_join(self) -> None:
        """Write a video's rows, with tracks, from those of its segments."""
        with self.measure_stage("track"):
            join_parts(self)

    def write(self, name: str, rows: list[schema.Row]) -> None:
        """Write rows as a file of the output."""
        with self.measure_stage("write"):
            self.tools.output.write(name, schema.table_bytes(rows, self.tools.schema))

    def count(self, rows: list[schema.Row]) -> None:
        """Count finished rows."""
        self.outcome.rows += len(rows)
        self.outcome.faces += sum(len(row["faces"]) for row in rows)
        self.outcome.errors += sum(row["error"] is not None for row in rows)
