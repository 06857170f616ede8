"""Annotated video into a GStreamer pipeline, for the encoders of a GPU or a Jetson."""

from __future__ import annotations

import cv2

from feredge.runtime.errors import OutputError
from feredge.runtime.machine import has_gstreamer
from feredge.runtime.results import Array, FrameResult

GSTREAMER = "gst:"
DEFAULT_FPS = 25.0


class PipelineVideo:
    """Frames into a pipeline that begins with `appsrc`, at a constant rate.

    The pipeline writes its file itself: it is not atomic, and its frames are not counted.

    Args:
        pipeline: for example `appsrc ! videoconvert ! x264enc ! mp4mux ! filesink location=a.mp4`.
        fps: frames per second.

    Raises:
        OutputError: this cv2 was built without GStreamer.
    """

    def __init__(self, pipeline: str, fps: float) -> None:
        if not has_gstreamer():
            raise OutputError("`output` gst: needs a cv2 with GStreamer, which pip's opencv-python "
                              "never has: use the one of your distribution or of JetPack, in a "
                              "venv made with --system-site-packages")
        self.pipeline, self.fps = pipeline, fps if fps > 0 else DEFAULT_FPS
        self.size = 0, 0
        self.writer: cv2.VideoWriter | None = None

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Add one frame; the first one sets the size, and the others are scaled to it.

        Raises:
            OutputError: the pipeline does not start.
        """
        size = annotated_bgr.shape[1], annotated_bgr.shape[0]
        if self.writer is None:
            self.writer, self.size = self.start(size), size
        self.writer.write(annotated_bgr if size == self.size
                          else cv2.resize(annotated_bgr, self.size))

    def start(self, size: tuple[int, int]) -> cv2.VideoWriter:
        """Start the pipeline. Errors do not repeat it: it may hold the key of a stream.

        Raises:
            OutputError: it does not start.
        """
        writer = cv2.VideoWriter(self.pipeline, cv2.CAP_GSTREAMER, 0, self.fps, size)
        if not writer.isOpened():
            raise OutputError("the pipeline of `output` does not start: it must begin with "
                              "`appsrc ! videoconvert`, and each element must be installed "
                              "(gst-inspect-1.0 NAME)")
        return writer

    def close(self) -> None:
        """Send the end of the stream, and wait until the pipeline is done with it."""
        if self.writer is not None:
            self.writer.release()
            self.writer = None
