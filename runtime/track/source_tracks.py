"""The state of one source between frames: its tracks, smoothing, reuse, and counters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from feredge.runtime.results import Array, FrameResult
from feredge.runtime.track.options import TrackOptions
from feredge.runtime.track.reuse import PredictionReuse
from feredge.runtime.track.smoothing import Smoother
from feredge.runtime.track.tracker import Tracker


class SourceTracks:
    """The state of one source between frames; its frames must come in order.

    Args:
        options: tracking, smoothing, skipped detections and reuse.
        track_ids: the numbers of new tracks, shared by all sources.
    """

    def __init__(self, options: TrackOptions, track_ids: Iterator[int]) -> None:
        self.detect_every = options.detect_every
        self.tracker = Tracker(track_ids) if options.track else None
        self.smoother = Smoother() if options.track and options.smooth else None
        self.reuse = None if options.reuse is None else PredictionReuse(options.reuse)
        self.read = self.frames = self.dropped = 0

    def next_is_detected(self) -> bool:
        """Return whether the next frame is detected, or skipped by `detect_every`."""
        self.read += 1
        return (self.read - 1) % self.detect_every == 0

    def boxes_to_classify(self, result: FrameResult) -> Array:
        """Return the oriented boxes of the faces to classify, `(m, 5)`; all faces without reuse."""
        faces = result.faces
        if self.reuse is not None:
            faces = faces[self.reuse.select(result.frame.frame_bgr, faces.boxes_xyxy)]
        return faces.oriented_boxes

    def all_probabilities(self, probabilities: Array) -> Array:
        """Return the probabilities of all faces of the frame, new and reused, `(n, classes)`.

        Args:
            probabilities: `(m, classes)`, of `boxes_to_classify`.
        """
        return probabilities if self.reuse is None else self.reuse.complete(probabilities)

    def track(self, result: FrameResult) -> None:
        """Update the tracks from new detections, or predict them on a skipped frame, and smooth."""
        if self.tracker is None:
            return
        time_s = result.frame.time_s
        with result.time_stage("track"):
            if result.is_detected:
                result.faces = self.tracker.update(result.faces, time_s)
            else:
                shape = result.frame.frame_bgr.shape
                result.faces = self.tracker.predict(time_s).within(shape)
            result.events = self.tracker.events
            if self.smoother is not None:
                result.faces = self.smoother.update(result.faces, time_s)

    def boxes_to_blur(self, result: FrameResult) -> Array:
        """Return all boxes that may hold a face, `(n, 4)`.

        Faces that are not shown and tracks that the detector missed in this frame are included.
        """
        boxes = [result.detections.boxes_xyxy]
        if self.tracker is not None:
            boxes.append(self.tracker.predict(result.frame.time_s, unseen=True).boxes_xyxy)
        return np.concatenate(boxes)

    def count(self, index: int, is_live: bool) -> None:
        """Count a frame; numbers missing from a live source are dropped frames."""
        self.frames += 1
        if is_live:
            self.dropped = index + 1 - self.frames
