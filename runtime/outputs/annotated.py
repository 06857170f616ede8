"""Files of annotated frames: a picture, a folder of pictures, a video, a folder of videos."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2

from feredge.runtime.errors import OutputError
from feredge.runtime.files import atomic_write, check_folder, make_folder
from feredge.runtime.outputs.base import AnnotatedOutput
from feredge.runtime.results import Array, FrameResult
from feredge.runtime.sources.base import Source
from feredge.runtime.suffixes import PICTURES, VIDEO_CODECS


class PictureFile:
    """One annotated picture."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_folder(path)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Write the picture atomically."""
        write_picture(self.path, annotated_bgr)

    def close(self) -> None:
        """Do nothing: no resource is held."""


def write_picture(path: Path, picture_bgr: Array) -> None:
    """Write a picture atomically, in the format of its suffix.

    Args:
        path: where to write it.
        picture_bgr: `(h, w, 3)` uint8.

    Raises:
        OutputError: OpenCV has no encoder for the suffix, or the folder cannot be written.
    """
    good, encoded = cv2.imencode(path.suffix, picture_bgr)
    if not good:
        raise OutputError(f"{path}: OpenCV cannot encode {path.suffix} pictures")
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


class PictureFolder:
    """A folder of annotated pictures with the names and subfolders of the source folder."""

    def __init__(self, folder: Path, source_folder: Path) -> None:
        self.folder, self.source_folder = folder, source_folder
        make_folder(folder)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Write one picture under the name of its source."""
        target = self.folder / Path(result.frame.source).relative_to(self.source_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_picture(target, annotated_bgr)

    def close(self) -> None:
        """Do nothing: no resource is held."""


class VideoFile:
    """An annotated video; the file gets its final name when it is complete.

    Args:
        path: the file; its suffix names the container.
        fps: frames per second.

    Raises:
        OutputError: no file can be created there.
    """

    def __init__(self, path: Path, fps: float) -> None:
        check_folder(path)
        self.path, self.fps = path, fps
        self.partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self.writer: Any = None
        self.size = (0, 0)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Add one frame; the first one sets the size, and the others are scaled to it."""
        size = annotated_bgr.shape[1], annotated_bgr.shape[0]
        if self.writer is None:
            self.size = size
            self.writer = self.open_writer()
        if size != self.size:
            annotated_bgr = cv2.resize(annotated_bgr, self.size)
        self.writer.write(annotated_bgr)

    def open_writer(self) -> Any:
        """Return OpenCV's writer of the temporary file.

        Raises:
            OutputError: OpenCV has no encoder for the container or the size.
        """
        codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(self.partial), codec, self.fps, self.size)
        if not writer.isOpened():
            raise OutputError(f"{self.path} cannot be written: OpenCV has no encoder for a "
                              f"{self.size[0]}x{self.size[1]} {self.path.suffix} video here")
        return writer

    def close(self) -> None:
        """Complete the video and rename it.

        Raises:
            OutputError: it cannot be renamed.
        """
        if self.writer is not None:
            self.writer.release()
            self.writer = None
            try:
                os.replace(self.partial, self.path)
            except OSError as error:
                raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


class VideoFolder:
    """A folder with one annotated video per source, named after it."""

    def __init__(self, folder: Path, several: Source) -> None:
        self.files = {}
        make_folder(folder)
        for k, source in enumerate(several.parts):
            name = re.sub(r"[^\w.-]+", "-", source.name).strip("-.")
            self.files[source.name] = VideoFile(folder / f"{k}-{name[-60:]}.mp4", source.fps)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Add one frame to the video of its source."""
        self.files[result.frame.source].write_annotated(result, annotated_bgr)

    def close(self) -> None:
        """Complete every video, also if one of them fails."""
        with ExitStack() as stack:
            for file in self.files.values():
                stack.callback(file.close)


def open_annotated(path: str, source: Source) -> AnnotatedOutput:
    """Open what `--output` names: a picture, a folder or a video, whichever the source is.

    Several sources give a folder of videos.

    Raises:
        OutputError: the suffix does not fit the source, or nothing can be written there.
    """
    target, suffix = Path(path), Path(path).suffix.lower()
    if len(source.parts) > 1:
        if suffix in VIDEO_CODECS:
            raise OutputError(f"--output {path}: several sources need a folder, for a video each")
        return VideoFolder(target, source)
    if not source.is_ordered:
        folder = Path(source.name)
        return PictureFolder(target, folder) if folder.is_dir() else picture_file(target)
    if suffix not in VIDEO_CODECS:
        raise OutputError(f"--output {path}: a video needs a name that ends in one of "
                          f"{', '.join(VIDEO_CODECS)}")
    return VideoFile(target, source.fps)


def picture_file(path: Path) -> PictureFile:
    """Open the output of a single picture.

    Raises:
        OutputError: the suffix is not that of a picture.
    """
    if path.suffix.lower() not in PICTURES:
        raise OutputError(f"--output {path}: a picture needs a name that ends in one of "
                          f"{', '.join(sorted(PICTURES))}")
    return PictureFile(path)
