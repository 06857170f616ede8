"""Tracking: which face of a frame is which person of the frames before it, from boxes alone.

The method is SORT's: a Kalman filter of constant velocity a box, and boxes assigned by overlap
(Bewley et al.: "Simple Online and Realtime Tracking", ICIP 2016). It is written here because the
packages that offer it bring more than the runtime's three: scipy and lap for the assignment,
supervision and norfair with matplotlib and others. A handful of faces needs neither.

Time counts in seconds, not in frames: a live source drops frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from feredge.runtime.results import Array, Faces, TrackEvent

MIN_IOU = 0.3  # SORT's: a detection that overlaps a track less is another face
# A face is a person once it was seen for this long without a miss, so in two detections at least:
# false alarms of a detector flicker, and a person who is named a tenth of a second later is not
# missed. Until then it is shown without a number.
CONFIRM_S = 0.1
LOST_S = 1.0  # unseen for longer, a person has left; a hand before the face takes less
# In sides of the face, so that near and far faces, and small and large frames, are the same:
BOX_NOISE = 0.03  # of a detector's edges, standard deviation
FIRST_SPEED = 1.0  # a second, standard deviation of what is not yet known
ACCELERATION = 10.0  # power of the white noise that changes the velocity, sides^2/s^3


@dataclass(eq=False)
class Track:
    """One face over time.

    `motion` `(2, 4)`: centre x, y, width and height in px, and below them their velocities. Their
    noise is the same, so that one `covariance` `(2, 2)` of position and velocity serves all four.
    `face` is the last detection, a single row.
    """

    face: Faces
    motion: Array = field(init=False)
    covariance: Array = field(init=False)
    track_id: int = -1
    seen_s: float = 0.0
    unseen_s: float = 0.0
    missed: bool = False

    def __post_init__(self) -> None:
        """Start where the face is, at rest."""
        self.motion = np.stack([centred(self.face.boxes_xyxy)[0], np.zeros(4)])
        self.covariance = np.diag([BOX_NOISE**2, FIRST_SPEED**2]) * self.side**2

    @property
    def side(self) -> float:
        """The longer side of the last detection, px."""
        return float(centred(self.face.boxes_xyxy)[0, 2:].max())

    @property
    def box_xyxy(self) -> Array:
        """Where the face should be now, `(4,)`."""
        centre, size = self.motion[0, :2], np.maximum(self.motion[0, 2:], 1.0)
        return np.concatenate([centre - size / 2, centre + size / 2])

    def advance(self, seconds: float) -> None:
        """Let time pass: many short steps come to the same as a long one."""
        step = np.array([[1.0, seconds], [0.0, 1.0]])
        noise = np.array([[seconds**3 / 3, seconds**2 / 2], [seconds**2 / 2, seconds]])
        self.motion = step @ self.motion
        self.covariance = step @ self.covariance @ step.T + ACCELERATION * self.side**2 * noise
        self.seen_s += seconds
        self.unseen_s += seconds

    def correct(self, face: Faces) -> None:
        """Take a detection, a single row, as what was seen."""
        self.face, self.unseen_s, self.missed = face, 0.0, False
        spread = self.covariance[0, 0] + (BOX_NOISE * self.side) ** 2
        gain = self.covariance[:, 0] / spread
        self.motion += gain[:, None] * (centred(face.boxes_xyxy)[0] - self.motion[0])
        self.covariance -= np.outer(gain, self.covariance[0])

    def carried(self) -> Faces:
        """Return the last detection, moved to where the face should be now: a single row."""
        before, now = self.face.boxes_xyxy[0], self.box_xyxy
        scale = (now[2:] - now[:2]) / np.maximum(before[2:] - before[:2], 1e-6)
        landmarks = (self.face.landmarks - before[:2]) * scale + now[:2]
        return replace(self.face, boxes_xyxy=now[None].astype(np.float32),
                       landmarks=landmarks.astype(np.float32),
                       track_ids=np.array([self.track_id]))


class Tracker:
    """Follows the faces of one source; its frames must come in order.

    `events` are those of the last update.

    Args:
        numbers: names persons; trackers of several sources share it.
    """

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        self.numbers = count(1) if numbers is None else numbers
        self.tracks: list[Track] = []
        self.events: list[TrackEvent] = []
        self.time_s: float | None = None

    def update(self, faces: Faces, time_s: float) -> Faces:
        """Return the detected faces with their tracks' numbers, -1 while they may be a flicker."""
        self.advance(time_s)
        track_of = dict(assigned(self.predicted_boxes(), faces.boxes_xyxy))
        numbers = np.full(len(faces), -1, np.int64)
        self.events = []
        for track in self.tracks:
            track.missed = True
        for row in range(len(faces)):
            track = self.seen(faces[row : row + 1], track_of.get(row))
            numbers[row] = track.track_id
        self.drop_lost()
        return replace(faces, track_ids=numbers)

    def predict(self, time_s: float, unseen: bool = False) -> Faces:
        """Return where the faces of the last detection should be by now, with what they carry.

        Args:
            time_s: of the frame.
            unseen: also those that the last detection missed.
        """
        self.advance(time_s)
        self.events = []
        carried = [track.carried() for track in self.tracks if unseen or not track.missed]
        return Faces.joined(carried)

    def advance(self, time_s: float) -> None:
        """Let time pass for all tracks; a clock that is set back stands still."""
        seconds = 0.0 if self.time_s is None else max(time_s - self.time_s, 0.0)
        self.time_s = time_s
        for track in self.tracks:
            track.advance(seconds)

    def predicted_boxes(self) -> Array:
        """Return where every track's face should be now, `(n, 4)`."""
        return np.array([track.box_xyxy for track in self.tracks]).reshape(-1, 4)

    def seen(self, face: Faces, place: int | None) -> Track:
        """Give a detection to its track, or to a new one, which is named once it is confirmed."""
        if place is None:
            self.tracks.append(Track(face))
            return self.tracks[-1]
        track = self.tracks[place]
        track.correct(face)
        if track.track_id < 0 and track.seen_s >= CONFIRM_S:
            track.track_id = next(self.numbers)
            self.events.append(TrackEvent("enter", track.track_id))
        return track

    def drop_lost(self) -> None:
        """Forget who is unseen for too long, and at once what was never confirmed."""
        lost = [track for track in self.tracks
                if track.missed and (track.track_id < 0 or track.unseen_s > LOST_S)]
        self.events += [TrackEvent("exit", track.track_id) for track in lost if track.track_id >= 0]
        self.tracks = [track for track in self.tracks if track not in lost]


def centred(boxes_xyxy: Array) -> Array:
    """Return boxes as centre x, y, width and height, float64."""
    corners = np.asarray(boxes_xyxy, np.float64)
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def overlaps(first_xyxy: Array, second_xyxy: Array) -> Array:
    """Return the intersection over union of `(m, 4)` and `(n, 4)` boxes, each with each."""
    first, second = first_xyxy[:, None], second_xyxy[None]
    sides = (np.minimum(first[..., 2:], second[..., 2:])
             - np.maximum(first[..., :2], second[..., :2]))
    shared = np.maximum(sides, 0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-9))


def assigned(tracks_xyxy: Array, faces_xyxy: Array) -> Sequence[tuple[int, int]]:
    """Return pairs of a face's row and its track's place: the largest overlap chooses first."""
    left = overlaps(tracks_xyxy, faces_xyxy)
    pairs = []
    while left.size and left.max() >= MIN_IOU:
        place, row = np.unravel_index(left.argmax(), left.shape)
        pairs.append((int(row), int(place)))
        left[place], left[:, row] = -1, -1
    return pairs
