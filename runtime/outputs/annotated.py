"""Open the annotated picture, folder or video that `--output` names."""

from __future__ import annotations

from pathlib import Path

from feredge.runtime.errors import OutputError
from feredge.runtime.outputs.base import AnnotatedOutput
from feredge.runtime.outputs.gstreamer import GSTREAMER, PipelineVideo
from feredge.runtime.outputs.pictures import PictureFile, PictureFolder
from feredge.runtime.outputs.video import VideoFolder, open_video
from feredge.runtime.sources.base import Source
from feredge.runtime.suffixes import PICTURES, VIDEO_CODECS


def open_annotated(path: str, source: Source) -> AnnotatedOutput:
    """Open what `--output` names: a picture, a folder or a video, whichever the source is.

    Several sources give a folder of videos; `gst:PIPELINE` encodes by GStreamer.

    Raises:
        OutputError: the suffix does not fit the source, or nothing can be written there.
    """
    if path.startswith(GSTREAMER):
        return open_pipeline(path.removeprefix(GSTREAMER), source)
    target, suffix = Path(path), Path(path).suffix.lower()
    if len(source.parts) > 1:
        if suffix in VIDEO_CODECS:
            raise OutputError(f"`output` {path}: several sources need a folder, for a video each")
        return VideoFolder(target, source)
    if not source.is_ordered:
        folder = Path(source.name)
        if folder.is_dir():
            if suffix in VIDEO_CODECS or suffix in PICTURES:
                raise OutputError(f"`output` {path}: a folder of pictures needs a folder")
            return PictureFolder(target, folder, source.problems.append)
        return picture_file(target)
    if suffix not in VIDEO_CODECS:
        raise OutputError(f"`output` {path}: a video needs a name that ends in one of "
                          f"{', '.join(VIDEO_CODECS)}")
    return open_video(target, source.parts[0])


def open_pipeline(pipeline: str, source: Source) -> PipelineVideo:
    """Open a GStreamer pipeline for the video of one source.

    Raises:
        OutputError: there are several sources, or pictures; or this cv2 has no GStreamer.
    """
    if len(source.parts) > 1 or not source.is_ordered:
        raise OutputError("`output` gst: takes the frames of one video or live source")
    return PipelineVideo(pipeline, source.fps)


def picture_file(path: Path) -> PictureFile:
    """Open the output of a single picture.

    Raises:
        OutputError: the suffix is not that of a picture.
    """
    if path.suffix.lower() not in PICTURES:
        raise OutputError(f"`output` {path}: a picture needs a name that ends in one of "
                          f"{', '.join(sorted(PICTURES))}")
    return PictureFile(path)
