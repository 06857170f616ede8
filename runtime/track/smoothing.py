"""Smoothing: one steady answer a person, from answers that jitter from frame to frame.

A network answers a face that is moved by a pixel a little differently; where two classes are close,
the label flickers. The logarithms of a track's probabilities are averaged over a short window: a
weighted geometric mean, which weighs evidence, and a class has to be ruled out only once. A window
forgets what was before a change at a set time, however certain it was; of an exponential filter
something always stays, and one that is as quick in the worst case flips more. Time counts in
seconds: the weight of an answer is the time that it stands for, so that the mean is the same at
every frame rate, and exact when frames come irregularly.
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
LEAD = 1.2  # the label changes at once to a class that is so many times as probable,
LEAD_S = 0.4  # or to one that leads by less for so long
# A bound on what one answer can say: with a lower one a single sure mistake would change a label,
# and certainty would take long to overcome. It is why eight classes never show more than 93 %.
LEAST_PROBABILITY = 0.01


@dataclass
class Smoothed:
    """One track's answer, and the label shown.

    `logarithms` `(n, classes)` are those of the answers in the window, oldest first, and `seconds`
    `(n,)` the parts of it that they stand for.
    """

    logarithms: Array
    seconds: Array
    time_s: float
    label_id: int
    behind_s: float = 0.0

    @property
    def probabilities(self) -> Array:
        """The weighted geometric mean, `(classes,)`, of sum 1."""
        means = np.exp(self.seconds @ self.logarithms / self.seconds.sum())
        return np.asarray(means / means.sum(), np.float32)

    def add(self, logarithms: Array, time_s: float, window_s: float) -> None:
        """Take an answer that stands for the time since the one before it."""
        since_s = max(time_s - self.time_s, 0.0)
        seconds = np.append(self.seconds, since_s)
        later_s = seconds[::-1].cumsum()[::-1] - seconds  # than each answer
        seconds = np.clip(window_s - later_s, 0, seconds)
        inside = seconds > 0
        self.logarithms = np.vstack([self.logarithms, logarithms])[inside]
        self.seconds, self.time_s = seconds[inside], time_s
        self.decide(since_s)

    def decide(self, seconds: float) -> None:
        """Change the label if another class leads clearly, or for long."""
        probabilities = self.probabilities
        best = int(probabilities.argmax())
        self.behind_s = 0.0 if best == self.label_id else self.behind_s + seconds
        clearly = probabilities[best] >= LEAD * probabilities[self.label_id]
        if best != self.label_id and (clearly or self.behind_s >= LEAD_S):
            self.label_id, self.behind_s = best, 0.0


class Smoother:
    """Keeps an answer a track, for as long as the tracker may find it again."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self.window_s = window_s
        self.answers: dict[int, Smoothed] = {}

    def update(self, faces: Faces, time_s: float) -> Faces:
        """Return the faces with smoothed probabilities and steady labels.

        Faces without a track stay as they are. Those that are carried between two detections come
        with the last answer, which holds until there is a new one.
        """
        probabilities, label_ids = faces.probabilities.copy(), faces.label_ids.copy()
        for row, track_id in enumerate(faces.track_ids.tolist()):
            if track_id >= 0:
                answer = self.answer(track_id, faces.probabilities[row], time_s)
                probabilities[row], label_ids[row] = answer.probabilities, answer.label_id
        self.answers = {track_id: answer for track_id, answer in self.answers.items()
                        if time_s - answer.time_s <= LOST_S}
        return replace(faces, probabilities=probabilities, label_ids=label_ids)

    def answer(self, track_id: int, probabilities: Array, time_s: float) -> Smoothed:
        """Add a track's new probabilities to its answer; the first stands for its confirmation."""
        logarithms = np.log(np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY))
        if track_id in self.answers:
            self.answers[track_id].add(logarithms, time_s, self.window_s)
        else:
            best = int(probabilities.argmax())
            self.answers[track_id] = Smoothed(logarithms[None], np.array([CONFIRM_S]), time_s, best)
        return self.answers[track_id]
