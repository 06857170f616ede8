"""The size at which a frame is searched for faces: given, or selected by the smallest face."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from feredge.runtime.detect.options import DetectorOptions

LEAST_PX = 320  # below it the detector is hardly faster
MOST_PX = 4096  # of a canvas; 16 bytes of memory a pixel and channel at the first layers
# On the canvas: of faces of 20 px and more the bundled detector finds nine in ten, of smaller ones
# two in three (benchmarks/results/detectors.json).
LEAST_FACE_PX = 20
COARSE_ABOVE_PX = 640  # faces that fill a larger canvas get boxes that are too small
LIVE_SHARE = 0.5  # of the time between two frames, for detection
SETTLE = 15  # detections between two changes of a live source's size
MARGIN = 0.2  # a live source's size changes by more than this, or not at all
STEP_PX = 32


@dataclass
class DetectionSize:
    """Selects the long side of the canvas for each frame.

    Args:
        options: the size, or the smallest face.
        most_px: the largest canvas of this detector.
        frames_per_s: of a live source whose rate is to be kept; None: no limit on time.
    """

    options: DetectorOptions
    most_px: int = MOST_PX
    frames_per_s: float | None = None

    def __post_init__(self) -> None:
        self.live_px = LEAST_PX
        self.seconds_per_pixel = 0.0
        self.detections = 0
        self.warned = False

    def of(self, frame_shape: tuple[int, ...]) -> int:
        """Return the long side of the canvas for a frame, in px; warn once if it is too small."""
        needed = needed_px(frame_shape, self.options.min_face_px)
        size_px = self.options.size_px
        if size_px is None:
            size_px = min(needed, self.most_px)
            if self.frames_per_s is not None:
                size_px = min(size_px, self.live_px)
        if size_px < needed and not self.warned and self.is_final():
            self.warned = True
            self.warn(frame_shape, size_px, needed)
        return size_px

    def coarse_size(self, frame_shape: tuple[int, ...]) -> int | None:
        """Return the size of a second, coarse detection for the largest faces; None without."""
        if self.options.size_px is not None or self.frames_per_s is not None:
            return None
        return LEAST_PX if self.of(frame_shape) > COARSE_ABOVE_PX else None

    def is_final(self) -> bool:
        """Return whether the size is not about to change with the first measured times."""
        return self.frames_per_s is None or self.detections > 4 * SETTLE

    def warn(self, frame_shape: tuple[int, ...], size_px: int, needed: int) -> None:
        """Warn that faces of `min_face_px` are too small on the canvas."""
        seen_px = -(-LEAST_FACE_PX * max(frame_shape[:2]) // size_px)
        why = " to keep the frame rate" if self.frames_per_s is not None else ""
        warnings.warn(f"detection runs at {size_px} px{why}, where faces under {seen_px} px are "
                      f"often missed: faces of {self.options.min_face_px} px need "
                      f"`size_px` {needed}; `min_face_px` {seen_px} accepts this", stacklevel=3)

    def record(self, seconds: float, canvas_px: int) -> None:
        """Record the time of a detection, from which the size for a live source follows.

        Args:
            seconds: of the whole detection.
            canvas_px: width times height of its canvas.
        """
        if self.frames_per_s is None:
            return
        measured = seconds / canvas_px
        self.detections += 1
        weight = 1 / min(self.detections, SETTLE)
        self.seconds_per_pixel += weight * (measured - self.seconds_per_pixel)
        if self.detections % SETTLE == 0:
            self.adapt(canvas_px)

    def adapt(self, canvas_px: int) -> None:
        """Set the size of a live source so that a detection takes its share of a frame's time."""
        budget_s = LIVE_SHARE / (self.frames_per_s or 1.0)
        ratio: float = (budget_s / (self.seconds_per_pixel * canvas_px)) ** 0.5
        if abs(ratio - 1) > MARGIN:
            wanted = int(self.live_px * min(ratio, 2.0)) // STEP_PX * STEP_PX
            self.live_px = min(max(wanted, LEAST_PX), self.most_px)


def needed_px(frame_shape: tuple[int, ...], min_face_px: int) -> int:
    """Return the long side of the canvas on which a face of this size can be found."""
    longer = max(frame_shape[:2])
    return max(-(-longer * LEAST_FACE_PX // min_face_px), LEAST_PX)
