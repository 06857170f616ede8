"""Tracking: assign the faces of a frame to the tracks of earlier frames, from boxes alone.

The method is SORT: one Kalman filter of constant velocity per box, and assignment by overlap
(Bewley et al.: "Simple Online and Realtime Tracking", ICIP 2016). Existing packages depend on more
than the runtime does: scipy and lap for the assignment, supervision and norfair on matplotlib and
others. A few faces need neither.

Time is measured in seconds, not in frames, because a live source drops frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from feredge.runtime.results import Array, Faces, TrackEvent

MIN_IOU = 0.3  # SORT's: a detection that overlaps a track less belongs to another face
# A track is confirmed after this time without a miss, so after two detections at least. False
# detections flicker and never get a number; a face gets its number a tenth of a second late.
CONFIRM_S = 0.1
LOST_S = 1.0  # a track without a detection for longer ends; a hand in front of a face takes less
# In sides of the face, so that they hold for near and far faces and for any frame size:
BOX_NOISE = 0.03  # standard deviation of the edges of a detection
FIRST_SPEED = 1.0  # standard deviation of the velocity of a new track, per second
ACCELERATION = 10.0  # power of the white noise that changes the velocity, sides^2/s^3


@dataclass(eq=False)
class Track:
    """One face over time.

    Attributes:
        face: the last detection, a single face.
        motion: `(2, 4)` float64: center x, y, width and height in px, and their velocities below.
        covariance: `(2, 2)` float64 of position and velocity; the four columns of `motion` share
            it, because their noise is the same.
        track_id: the number of the track; -1 until it is confirmed.
        seen_s: the time since the first detection.
        unseen_s: the time since the last detection.
        is_missed: the last detected frame had no detection of this face.
    """

    face: Faces
    motion: Array = field(init=False)
    covariance: Array = field(init=False)
    track_id: int = -1
    seen_s: float = 0.0
    unseen_s: float = 0.0
    is_missed: bool = False

    def __post_init__(self) -> None:
        """Start at the detection, at rest."""
        self.motion = np.stack([center_boxes(self.face.boxes_xyxy)[0], np.zeros(4)])
        self.covariance = np.diag([BOX_NOISE**2, FIRST_SPEED**2]) * self.side_px**2

    @property
    def side_px(self) -> float:
        """The longer side of the last detection."""
        return float(center_boxes(self.face.boxes_xyxy)[0, 2:].max())

    @property
    def box_xyxy(self) -> Array:
        """The predicted box, `(4,)` float64."""
        center, size = self.motion[0, :2], np.maximum(self.motion[0, 2:], 1.0)
        return np.concatenate([center - size / 2, center + size / 2])

    def advance(self, seconds: float) -> None:
        """Predict the motion; many short steps give the same as one long step."""
        step = np.array([[1.0, seconds], [0.0, 1.0]])
        noise = np.array([[seconds**3 / 3, seconds**2 / 2], [seconds**2 / 2, seconds]])
        self.motion = step @ self.motion
        self.covariance = step @ self.covariance @ step.T + ACCELERATION * self.side_px**2 * noise
        self.seen_s += seconds
        self.unseen_s += seconds

    def correct(self, face: Faces) -> None:
        """Correct the prediction with a detection, a single face."""
        self.face, self.unseen_s, self.is_missed = face, 0.0, False
        spread = self.covariance[0, 0] + (BOX_NOISE * self.side_px) ** 2
        gain = self.covariance[:, 0] / spread
        self.motion += gain[:, None] * (center_boxes(face.boxes_xyxy)[0] - self.motion[0])
        self.covariance -= np.outer(gain, self.covariance[0])

    def predict_face(self) -> Faces:
        """Return the last detection, moved and scaled to the predicted box: a single face."""
        before, now = self.face.boxes_xyxy[0], self.box_xyxy
        scale = (now[2:] - now[:2]) / np.maximum(before[2:] - before[:2], 1e-6)
        landmarks = (self.face.landmarks - before[:2]) * scale + now[:2]
        return replace(self.face, boxes_xyxy=now[None].astype(np.float32),
                       landmarks=landmarks.astype(np.float32),
                       track_ids=np.array([self.track_id]))


class Tracker:
    """Follows the faces of one source; its frames must come in order.

    `events` are the starts and ends of tracks in the last update.

    Args:
        track_ids: the numbers of new tracks; trackers of several sources share it.
    """

    def __init__(self, track_ids: Iterator[int] | None = None) -> None:
        self.track_ids = count(1) if track_ids is None else track_ids
        self.tracks: list[Track] = []
        self.events: list[TrackEvent] = []
        self.time_s: float | None = None

    def update(self, faces: Faces, time_s: float) -> Faces:
        """Return the detected faces with the numbers of their tracks, -1 before confirmation.

        Args:
            faces: the detections of the frame.
            time_s: the time of the frame.
        """
        self.advance(time_s)
        track_of = dict(assign(self.predict_boxes(), faces.boxes_xyxy))
        numbers = np.full(len(faces), -1, np.int64)
        self.events = []
        for track in self.tracks:
            track.is_missed = True
        for row, face in enumerate(faces):
            numbers[row] = self.update_track(face, track_of.get(row)).track_id
        self.drop_lost()
        return replace(faces, track_ids=numbers)

    def predict(self, time_s: float, unseen: bool = False) -> Faces:
        """Return the predicted faces of the last detection, with their probabilities.

        Args:
            time_s: the time of the frame.
            unseen: include tracks that the last detection missed.
        """
        self.advance(time_s)
        self.events = []
        return Faces.concatenate([track.predict_face() for track in self.tracks
                                  if unseen or not track.is_missed])

    def advance(self, time_s: float) -> None:
        """Advance all tracks to a time; an earlier time than the last one changes nothing."""
        seconds = 0.0 if self.time_s is None else max(time_s - self.time_s, 0.0)
        self.time_s = time_s
        for track in self.tracks:
            track.advance(seconds)

    def predict_boxes(self) -> Array:
        """Return the predicted box of every track, `(n, 4)`."""
        return np.array([track.box_xyxy for track in self.tracks]).reshape(-1, 4)

    def update_track(self, face: Faces, place: int | None) -> Track:
        """Correct the track at `place` with a detection, or start a track if it is None."""
        if place is None:
            self.tracks.append(Track(face))
            return self.tracks[-1]
        track = self.tracks[place]
        track.correct(face)
        if track.track_id < 0 and track.seen_s >= CONFIRM_S:
            track.track_id = next(self.track_ids)
            self.events.append(TrackEvent("enter", track.track_id))
        return track

    def drop_lost(self) -> None:
        """End tracks that were missed for too long, and unconfirmed tracks at the first miss."""
        lost = [track for track in self.tracks
                if track.is_missed and (track.track_id < 0 or track.unseen_s > LOST_S)]
        self.events += [TrackEvent("exit", track.track_id) for track in lost if track.track_id >= 0]
        self.tracks = [track for track in self.tracks if track not in lost]


def center_boxes(boxes_xyxy: Array) -> Array:
    """Return `(n, 4)` boxes as center x, y, width and height, `(n, 4)` float64."""
    corners = np.asarray(boxes_xyxy, np.float64)
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def overlaps(first_xyxy: Array, second_xyxy: Array) -> Array:
    """Return the intersection over union of `(m, 4)` and `(n, 4)` boxes, `(m, n)`."""
    first, second = first_xyxy[:, None], second_xyxy[None]
    sides = (np.minimum(first[..., 2:], second[..., 2:])
             - np.maximum(first[..., :2], second[..., :2]))
    shared = np.maximum(sides, 0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-9))


def assign(tracks_xyxy: Array, faces_xyxy: Array) -> Sequence[tuple[int, int]]:
    """Return pairs of a face's row and a track's place, by decreasing overlap.

    Args:
        tracks_xyxy: `(m, 4)`, px.
        faces_xyxy: `(n, 4)`, px.
    """
    left = overlaps(tracks_xyxy, faces_xyxy)
    pairs = []
    while left.size and left.max() >= MIN_IOU:
        place, row = np.unravel_index(left.argmax(), left.shape)
        pairs.append((int(row), int(place)))
        left[place], left[:, row] = -1, -1
    return pairs
