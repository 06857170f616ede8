"""Long videos: segments are classified independently, then joined in order.

Detection and classification see one frame at a time, tracking and smoothing take a thousandth of
their time. So segments hold detections without tracks, and one task per video runs the tracker over
all of them: the same tracks and probabilities as in one pass, by construction. (The alternative,
tracks per segment with two seconds of overlap and a join by equal boxes, computes the overlap twice
and depends on persons in view there.)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feredge.runtime.batch import schema
from feredge.runtime.batch.storage import FileSystems
from feredge.runtime.batch.tasks import SEGMENTS, Task, segment_name
from feredge.runtime.batch.video import VideoFile, open_video
from feredge.runtime.errors import SourceError, require
from feredge.runtime.results import Faces

if TYPE_CHECKING:
    from feredge.runtime.batch.worker import TaskRun

NOTE_FRAMES = 25  # a journal entry per so many frames


def probe_parts(files: FileSystems, name: str, segment_s: float) -> int:
    """Return the number of segments of a video; 1 if it cannot be read."""
    try:
        with open_video(open_stream(files, name), name) as video:
            return video.parts(segment_s)
    except SourceError:
        return 1


def open_stream(files: FileSystems, name: str) -> Any:
    """Open a video's file.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        return open(name, "rb") if "://" not in name else files.open(name)
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error}") from error


def segment_rows(run: TaskRun) -> list[schema.Row]:
    """Classify the frames of a segment; the row of an error follows those before it."""
    task, rows = run.task, list[schema.Row]()
    name = task.units[0]
    try:
        with open_video(open_stream(run.tools.files, name), name) as video:
            for row in frame_rows(run, video):
                rows.append(row)
    except SourceError as error:
        rows.append(schema.error_row(name, name, str(error)))
    except Exception as error:  # of a library, about this video
        text = f"segment {task.part + 1} of {task.parts}: {type(error).__name__}: {error}"
        rows.append(schema.error_row(name, name, text))
    return rows


def frame_rows(run: TaskRun, video: VideoFile) -> Iterator[schema.Row]:
    """Yield the rows of a segment's frames, without tracks."""
    task = run.task
    frames = video.frames(*video.bounds(task.part, task.parts))
    while True:
        with run.measure_stage("read"):
            frame = next(frames, None)
        if frame is None:
            return
        if frame.index % NOTE_FRAMES == 0:
            run.note(frame.index)
        faces = run.classify(frame.frame_bgr)
        row = schema.new_row(video.name, video.name, frame.frame_bgr, faces, run.tools.labels)
        yield row | {"time_s": frame.time_s}


class VideoTracks:
    """Numbers the frames and persons of one video, and smooths their probabilities."""

    def __init__(self, labels: tuple[str, ...], track: bool) -> None:
        from feredge.runtime.track.smoothing import Smoother
        from feredge.runtime.track.tracker import Tracker

        self.labels, self.track = labels, track
        self.tracker, self.smoother = Tracker(), Smoother()
        self.frames = 0

    def finish(self, row: schema.Row) -> schema.Row:
        """Return the next row with its number and its tracks; an error row is unchanged."""
        if row["error"] is not None:
            return row
        row = row | {"frame": self.frames}
        self.frames += 1
        if self.track:
            faces = self.update(schema.faces_of(row, self.labels), row["time_s"])
            row["faces"] = schema.face_rows(faces, self.labels)
        return row

    def update(self, faces: Faces, time_s: float) -> Faces:
        """Return the faces of the next frame with tracks and smoothed probabilities."""
        return self.smoother.update(self.tracker.update(faces, time_s), time_s)


def segment_files(task: Task) -> list[str]:
    """Return the files of a video's segments, in order."""
    return [f"{SEGMENTS}/{segment_name(task.chunk, part, task.parts)}"
            for part in range(task.parts)]


def join_parts(run: TaskRun) -> None:
    """Write the rows of a video from its segments, then delete those."""
    with run.tools.output.temporary_folder() as folder:
        local = Path(folder) / "video.parquet"
        write_joined(run, local)
        run.tools.output.write_file(f"{run.task.chunk}.parquet", local)
    for name in segment_files(run.task):
        run.tools.output.delete(name)


def write_joined(run: TaskRun, local: Path) -> None:
    """Write the rows of a video to a local file, one row group per segment."""
    pa, pq = require("pyarrow", "batch"), require("pyarrow.parquet", "batch")
    tracks = VideoTracks(run.tools.labels, run.job.track)
    with pq.ParquetWriter(local, run.tools.schema, compression="zstd") as writer:
        for name in segment_files(run.task):
            with run.tools.output.open(name) as stream:
                rows = [tracks.finish(row) for row in pq.read_table(stream).to_pylist()]
            run.count(rows)
            writer.write_table(pa.Table.from_pylist(rows, run.tools.schema))
        if not tracks.frames and not run.outcome.errors:
            rows = [schema.error_row(run.task.units[0], run.task.units[0],
                                     f"{run.task.units[0]} delivers no frame that can be decoded")]
            run.count(rows)
            writer.write_table(pa.Table.from_pylist(rows, run.tools.schema))
