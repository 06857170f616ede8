"""Outputs: annotated pictures and videos, JSON lines, CSV, and a window."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import cv2

from feredge.runtime.errors import OutputError
from feredge.runtime.files import atomic_write, check_folder, make_folder
from feredge.runtime.outputs.base import AnnotatedOutput
from feredge.runtime.results import Array, Faces, FrameResult
from feredge.runtime.sources.base import Source
from feredge.runtime.sources.pictures import SUFFIXES

CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


def open_text(path: str) -> TextIO:
    """Open a file for lines of text, complete after each; `-` is standard output.

    Raises:
        OutputError: it cannot be written.
    """
    if path == "-":
        return sys.stdout
    check_folder(Path(path))
    try:
        return open(path, "w", encoding="utf-8", newline="", buffering=1)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


class TextOutput:
    """A file of lines that grows frame by frame, so that it can be followed while it does."""

    def __init__(self, path: str, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.file = open_text(path)

    def close(self) -> None:
        """Close the file."""
        if self.file is not sys.stdout:
            self.file.close()


class JsonLines(TextOutput):
    """One JSON object a frame.

    A face's `label` is the one that is shown: that of its track, which may outlast a frame in which
    another class is more probable. `probabilities` are the track's, smoothed over time. `track` is
    null where there are no tracks, or none yet. A line has `events` where somebody came or left.
    """

    def write(self, result: FrameResult) -> None:
        """Write one line."""
        frame, faces = result.frame, result.faces
        record: dict[str, Any] = {
            "frame": frame.index, "source": frame.source, "time_s": round(frame.time_s, 4),
        }
        if frame.age_ms is not None:
            record["age_ms"] = round(frame.age_ms, 1)
        record["faces"] = [face_record(faces, k, self.labels) for k in range(len(faces))]
        if result.events:
            record["events"] = [{"event": event.kind, "track": event.track_id}
                                for event in result.events]
        self.file.write(json.dumps(record) + "\n")


def face_record(faces: Faces, row: int, labels: tuple[str, ...]) -> dict[str, Any]:
    """Return one face as it stands in the JSON lines: px and probabilities, rounded."""
    probabilities = [round(float(p), 5) for p in faces.probabilities[row]]
    shown, track = int(faces.label_ids[row]), int(faces.track_ids[row])
    return {
        "track": track if track >= 0 else None,
        "box": [round(float(edge), 2) for edge in faces.boxes_xyxy[row]],
        "score": round(float(faces.scores[row]), 4),
        "label": labels[shown],
        "probability": probabilities[shown],
        "probabilities": dict(zip(labels, probabilities)),
    }


class Csv(TextOutput):
    """One row a face, as in the JSON lines.

    Its last column says `enter` in the first row of a track; who leaves has no row any more, so
    that a track's last row is its exit.
    """

    def __init__(self, path: str, labels: tuple[str, ...]) -> None:
        super().__init__(path, labels)
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(["frame", "source", "time_s", "track", "x0", "y0", "x1", "y1",
                            "score", "label", *labels, "event"])

    def write(self, result: FrameResult) -> None:
        """Write a row for every face."""
        frame, faces = result.frame, result.faces
        entered = {event.track_id for event in result.events if event.kind == "enter"}
        for k in range(len(faces)):
            face = face_record(faces, k, self.labels)
            self.rows.writerow([
                frame.index, frame.source, round(frame.time_s, 4), face["track"], *face["box"],
                face["score"], face["label"], *face["probabilities"].values(),
                "enter" if face["track"] in entered else None,
            ])


class Text:
    """One line a face on the terminal, where nothing else was asked for."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels

    def write(self, result: FrameResult) -> None:
        """Print the faces of one frame."""
        frame, faces = result.frame, result.faces
        where = f"{frame.source} frame {frame.index}" if frame.time_s else frame.source
        if not len(faces):
            print(f"{where}: no face")
        for k in range(len(faces)):
            face = face_record(faces, k, self.labels)
            corners = ", ".join(f"{edge:.0f}" for edge in face["box"])
            track = f"{face['track']}: " if face["track"] else ""
            print(f"{where}: {track}{face['label']} {face['probability']:.1%} at {corners}")

    def close(self) -> None:
        """Nothing is held open."""


class Progress:
    """How far a run is, on the terminal's last line."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.shown_s = total, 0, 0.0

    def write(self, result: FrameResult) -> None:
        """Count one frame; show the count twice a second."""
        self.done += 1
        if time.monotonic() - self.shown_s > 0.5:
            self.shown_s = time.monotonic()
            of_total = f"/{self.total}" if self.total else ""
            print(f"\r{self.done}{of_total} frames", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clear the line."""
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class PictureFile:
    """One annotated picture."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_folder(path)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Write the picture, whole or not at all."""
        write_picture(self.path, annotated_bgr)

    def close(self) -> None:
        """Nothing is held open."""


def write_picture(path: Path, picture_bgr: Array) -> None:
    """Write a picture in the format that its suffix names, whole or not at all.

    Raises:
        OutputError: the suffix is no picture's, or the folder cannot be written.
    """
    good, encoded = cv2.imencode(path.suffix, picture_bgr)
    if not good:
        raise OutputError(f"{path}: OpenCV cannot encode {path.suffix} pictures")
    with atomic_write(path) as beside:
        beside.write_bytes(encoded.tobytes())


class PictureFolder:
    """A folder of annotated pictures, laid out as the source's."""

    def __init__(self, folder: Path, source_folder: Path) -> None:
        self.folder, self.source_folder = folder, source_folder
        make_folder(folder)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Write one picture under its own name."""
        target = self.folder / Path(result.frame.source).relative_to(self.source_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_picture(target, annotated_bgr)

    def close(self) -> None:
        """Nothing is held open."""


class VideoFile:
    """An annotated video, under its final name only once it is complete."""

    def __init__(self, path: Path, source: Source) -> None:
        check_folder(path)
        self.path, self.source = path, source
        self.partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self.writer: Any = None
        self.size = (0, 0)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Add one frame; the first one sets the size, later ones are scaled to it."""
        drawn = annotated_bgr
        if self.writer is None:
            self.size = (drawn.shape[1], drawn.shape[0])
            codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
            self.writer = cv2.VideoWriter(str(self.partial), codec, self.source.fps,
                                          self.size)
            if not self.writer.isOpened():
                raise OutputError(f"{self.path} cannot be written: OpenCV has no encoder for a "
                                  f"{self.size[0]}x{self.size[1]} {self.path.suffix} video here")
        if (drawn.shape[1], drawn.shape[0]) != self.size:
            drawn = cv2.resize(drawn, self.size)
        self.writer.write(drawn)

    def close(self) -> None:
        """Finish the video and give it its name."""
        if self.writer is not None:
            self.writer.release()
            self.writer = None
            try:
                os.replace(self.partial, self.path)
            except OSError as error:
                raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


class VideoFolder:
    """A folder with one annotated video a source, named after it."""

    def __init__(self, folder: Path, several: Source) -> None:
        self.files = {}
        make_folder(folder)
        for k, source in enumerate(several.parts):
            name = re.sub(r"[^\w.-]+", "-", source.name).strip("-.")
            self.files[source.name] = VideoFile(folder / f"{k}-{name[-60:]}.mp4", source)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Add one frame to its source's video."""
        self.files[result.frame.source].write_annotated(result, annotated_bgr)

    def close(self) -> None:
        """Finish every video, also where one cannot be."""
        with ExitStack() as stack:
            for file in self.files.values():
                stack.callback(file.close)


class Window:
    """A window on this machine's screen; of several sources each has its own."""

    TITLE = "feredge: q ends"

    def __init__(self, source: Source) -> None:
        self.source, self.wait_ms = source, 1 if source.is_ordered else 0
        self.named = len(source.parts) > 1

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Show one frame; pictures stay until a key is pressed."""
        try:
            title = f"{self.TITLE} ({result.frame.source})" if self.named else self.TITLE
            cv2.imshow(title, annotated_bgr)
            key = cv2.waitKey(self.wait_ms) & 0xFF
            shown = cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error as error:
            raise OutputError("no window can be opened here: this cv2 has no display; use "
                              "--no-display with --output or --jsonl") from error
        if key == ord("q") or not shown:
            self.source.stop()

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


def open_annotated(path: str, source: Source) -> AnnotatedOutput:
    """Open what `--output` names: a picture, a folder or a video, as the source is one.

    Of several sources, it is a folder of videos.

    Raises:
        OutputError: the suffix does not fit the source, or nothing can be written there.
    """
    target, suffix = Path(path), Path(path).suffix.lower()
    if len(source.parts) > 1:
        if suffix in CODECS:
            raise OutputError(f"--output {path}: several sources need a folder, of a video each")
        return VideoFolder(target, source)
    if not source.is_ordered:
        if Path(source.name).is_dir():
            return PictureFolder(target, Path(source.name))
        if suffix in SUFFIXES:
            return PictureFile(target)
        raise OutputError(f"--output {path}: a picture needs a name that ends in one of "
                          f"{', '.join(sorted(SUFFIXES))}")
    if suffix not in CODECS:
        raise OutputError(f"--output {path}: a video needs a name that ends in one of "
                          f"{', '.join(CODECS)}")
    return VideoFile(target, source)
