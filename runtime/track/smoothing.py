"""Smoothing: one stable label per track, from predictions that vary from frame to frame.

A network's probabilities change a little when a face moves by a pixel; where two classes are close,
the label flickers. Smoothing averages the logarithms of a track's probabilities over a short
window. This weighted geometric mean combines evidence: one prediction is enough to rule out a
class. A window forgets what came before a change after a fixed time, however certain it was; an
exponential filter never forgets all of it, and one with the same worst-case delay flips more.
Predictions are weighted by the time they stand for, so that the mean is independent of the frame
rate and exact for irregular frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from feredge.runtime.results import Array, Faces
from feredge.runtime.track.tracker import CONFIRM_S, LOST_S

# Measured by benchmarks/experiments/tracks.py: label flips fall below a tenth, and a true change
# is delayed by less than 0.3 s, after which the window holds predictions from after the change
# only. A greater lead delays changes between similar probabilities, a smaller one flips more. The
# three values were chosen on other clips than the benchmark's.
WINDOW_S = 0.3
LEAD = 1.2  # the label changes at once to a class that is this many times as probable,
LEAD_S = 0.4  # or to a class that leads by less for this time
# A lower bound on probabilities limits the evidence of one prediction: with a smaller value, one
# confident error changes the label, and certainty takes long to overcome. Eight classes therefore
# never show more than 93 %.
MIN_PROBABILITY = 0.01


@dataclass
class SmoothedTrack:
    """The smoothed probabilities and the label of one track.

    Attributes:
        logarithms: `(n, classes)` float64, of the predictions in the window, oldest first.
        seconds: `(n,)` float64, the part of the window that each prediction stands for.
        time_s: the time of the last prediction.
        label_id: the class that is shown.
        behind_s: for how long another class has led.
    """

    logarithms: Array
    seconds: Array
    time_s: float
    label_id: int
    behind_s: float = 0.0

    @property
    def probabilities(self) -> Array:
        """The weighted geometric mean, `(classes,)` float32, with sum 1."""
        means = np.exp(self.seconds @ self.logarithms / self.seconds.sum())
        return np.asarray(means / means.sum(), np.float32)

    def add(self, logarithms: Array, time_s: float, window_s: float) -> None:
        """Add a prediction that stands for the time since the previous one.

        Args:
            logarithms: `(classes,)`, of the probabilities.
            time_s: the time of the frame.
            window_s: the length of the window.
        """
        since_s = max(time_s - self.time_s, 0.0)
        seconds = np.append(self.seconds, since_s)
        later_s = seconds[::-1].cumsum()[::-1] - seconds  # after each prediction
        seconds = np.clip(window_s - later_s, 0, seconds)
        inside = seconds > 0
        self.logarithms = np.vstack([self.logarithms, logarithms])[inside]
        self.seconds, self.time_s = seconds[inside], time_s
        self.update_label(since_s)

    def update_label(self, seconds: float) -> None:
        """Change the label if another class leads clearly, or for long enough."""
        probabilities = self.probabilities
        best = int(probabilities.argmax())
        self.behind_s = 0.0 if best == self.label_id else self.behind_s + seconds
        leads_clearly = probabilities[best] >= LEAD * probabilities[self.label_id]
        if best != self.label_id and (leads_clearly or self.behind_s >= LEAD_S):
            self.label_id, self.behind_s = best, 0.0


class Smoother:
    """Smooths the predictions of every track, and keeps them as long as the tracker may."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self.window_s = window_s
        self.tracks: dict[int, SmoothedTrack] = {}

    def update(self, faces: Faces, time_s: float) -> Faces:
        """Return the faces with smoothed probabilities and labels.

        Faces without a track do not change. A face that is unsure stays so, and its probabilities
        do not count. On skipped frames, faces come with their last
        prediction, which counts until there is a new one.

        Args:
            faces: classified, with tracks.
            time_s: the time of the frame.
        """
        probabilities, label_ids = faces.probabilities.copy(), faces.label_ids.copy()
        for row, track_id in enumerate(faces.track_ids.tolist()):
            if track_id >= 0 and faces.label_ids[row] < 0:
                self.skip(track_id, time_s)
            elif track_id >= 0:
                track = self.update_track(track_id, faces.probabilities[row], time_s)
                probabilities[row], label_ids[row] = track.probabilities, track.label_id
        self.tracks = {track_id: track for track_id, track in self.tracks.items()
                       if time_s - track.time_s <= LOST_S}
        return replace(faces, probabilities=probabilities, label_ids=label_ids)

    def skip(self, track_id: int, time_s: float) -> None:
        """Let a track's prediction stand for no time while its face is unsure."""
        if track_id in self.tracks:
            self.tracks[track_id].time_s = max(time_s, self.tracks[track_id].time_s)

    def update_track(self, track_id: int, probabilities: Array, time_s: float) -> SmoothedTrack:
        """Add `(classes,)` probabilities to a track; the first stand for the confirmation time."""
        logarithms = np.log(np.maximum(probabilities.astype(np.float64), MIN_PROBABILITY))
        if track_id in self.tracks:
            self.tracks[track_id].add(logarithms, time_s, self.window_s)
        else:
            best = int(probabilities.argmax())
            self.tracks[track_id] = SmoothedTrack(logarithms[None], np.array([CONFIRM_S]), time_s,
                                                  best)
        return self.tracks[track_id]
