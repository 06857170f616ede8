"""Annotated videos: one file, or a folder with one per source."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import cv2

from feredge.runtime.errors import OutputError
from feredge.runtime.files import (
    create_beside,
    flush_to_disk,
    make_folder,
    prepare_folder,
    remove,
)
from feredge.runtime.outputs.base import escape
from feredge.runtime.outputs.closing import close_all
from feredge.runtime.outputs.video_writers import VideoWriter, open_writer
from feredge.runtime.results import Array, FrameResult
from feredge.runtime.sources.base import Source

SPACE_FRAMES = 50  # between two checks of the free space


class VideoFile:
    """An annotated video; the file gets its final name when it is complete and checked.

    Args:
        path: the file; its suffix names the container.
        fps: frames per second, where the container does not hold the time of each frame.
        audio: a file whose audio is copied, if the extra `video` is installed.

    Raises:
        OutputError: no file can be created there.
    """

    def __init__(self, path: Path, fps: float, audio: Path | None = None) -> None:
        prepare_folder(path)
        self.path, self.fps, self.audio = path, fps, audio
        self.temporary: Path | None = None
        self.writer: VideoWriter | None = None
        self.size, self.frames, self.has_failed = (0, 0), 0, False

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Add one frame; the first one sets the size, and the others are scaled to it.

        Raises:
            OutputError: it cannot be written, for example because the disk is full.
        """
        size = annotated_bgr.shape[1], annotated_bgr.shape[0]
        try:
            writer = self.writer or self.open_writer(size)
            if size != self.size:
                annotated_bgr = cv2.resize(annotated_bgr, self.size)
            writer.write(annotated_bgr, result.frame.time_s)
            self.frames += 1
            if self.frames % SPACE_FRAMES == 0:
                self.check_space()
        except OutputError as error:
            raise self.failure(str(error)) from error
        except (OSError, ValueError) as error:
            raise self.failure(getattr(error, "strerror", None) or str(error)) from error

    def open_writer(self, size: tuple[int, int]) -> VideoWriter:
        """Open the encoder on a temporary file.

        Raises:
            OutputError: there is no encoder, or no file can be created.
        """
        self.size, self.temporary = size, create_beside(self.path)
        self.writer = open_writer(self.temporary, self.fps, size, self.audio)
        return self.writer

    def check_space(self) -> None:
        """Check that the disk is not full: OpenCV's writer does not report it.

        Raises:
            OutputError: it is.
        """
        if shutil.disk_usage(self.path.absolute().parent).free == 0:
            raise OutputError("No space left on device")

    def failure(self, reason: str) -> OutputError:
        """Return the error of a video that cannot be written; `close` then discards it."""
        self.has_failed = True
        return OutputError(f"{escape(str(self.path))} cannot be written: {reason}")

    def close(self) -> None:
        """Complete the video, check that all frames are in it, and rename it.

        Raises:
            OutputError: frames are missing, or it cannot be renamed; there is then no file.
        """
        writer, self.writer = self.writer, None
        try:
            if writer is not None:
                writer.close()
                if not self.has_failed:
                    self.check_frames(writer.count())
            if self.temporary is not None and not self.has_failed:
                flush_to_disk(self.temporary)
                os.replace(self.temporary, self.path)
        except OSError as error:
            if not self.has_failed:
                raise self.failure(error.strerror or str(error)) from error
        finally:
            if self.temporary is not None:
                remove(self.temporary)
                self.temporary = None

    def check_frames(self, count: int) -> None:
        """Check that a complete file has the frames that were written; containers round.

        Raises:
            OutputError: frames are missing.
        """
        if count < 0.98 * self.frames - 2 or count == 0:
            free = shutil.disk_usage(self.path.absolute().parent).free
            raise self.failure(f"{count} of {self.frames} frames are in the file; {free / 1e6:.0f} "
                               "MB are free on the disk")


class VideoFolder:
    """A folder with one annotated video per source, named after it."""

    def __init__(self, folder: Path, several: Source) -> None:
        self.files = {}
        make_folder(folder)
        for k, source in enumerate(several.parts):
            name = re.sub(r"[^\w.-]+", "-", source.name).strip("-.")
            self.files[source.name] = open_video(folder / f"{k}-{name[-60:]}.mp4", source)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Add one frame, `(h, w, 3)` uint8, to the video of its source."""
        self.files[result.frame.source].write_annotated(result, annotated_bgr)

    def close(self) -> None:
        """Complete every video, also if one of them fails."""
        close_all(self.files.values())


def open_video(path: Path, source: Source) -> VideoFile:
    """Open the annotated video of a single source, with its audio if it is a file.

    Raises:
        OutputError: the video would replace the source, or no file can be created.
    """
    file = None if source.is_live or not Path(source.name).is_file() else Path(source.name)
    if file is not None and path.exists() and path.samefile(file):
        raise OutputError(f"{escape(str(path))} is the source itself: name another output")
    return VideoFile(path, source.fps, file)
