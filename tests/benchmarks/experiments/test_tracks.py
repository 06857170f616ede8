"""The benchmark of tracks: clips that are what they say, and counts that are right."""

import numpy as np
import pytest

from feredge.benchmarks.experiments.jitter import FPS, PLACES, STILL, draw_faces, write_clip
from feredge.benchmarks.experiments.track_runs import (
    CHANGE_S,
    TrackRun,
    added_delays_s,
    label_changes,
    matching_boxes,
)
from feredge.runtime import Faces, open_detector
from feredge.runtime.sources import frames_of, open_source


def shown(labels, track_id=1, box=(0, 0, 10, 10)):
    """Return a run of one track whose faces have these labels."""
    faces = []
    for label in labels:
        one = Faces.from_detections(np.array([box]), np.zeros((1, 5, 2)), np.ones(1))
        one.track_ids[:] = track_id
        faces.append(one.with_probabilities(np.where(np.arange(3) == label, 0.8, 0.1)[None]))
    return TrackRun(faces, (np.arange(len(faces)) / FPS).tolist())


def test_flips_are_counted_a_track_minute():
    counted = label_changes([shown([0] * 750 + [1] * 750 + [0]), shown([2] * 1501)])
    assert counted["flips"] == 2 and counted["tracks"] == 2
    assert counted["flips_per_minute"] == pytest.approx(1.0)


def test_a_flicker_is_smoothed_away_and_a_change_is_late_by_less_than_it_may_be():
    half = round(CHANGE_S * FPS)
    jittering = [0, 0, 1] * (half // 3)
    assert label_changes([shown(jittering)])["flips"] > 40
    assert label_changes([shown(jittering).smooth()])["flips"] == 0
    (delay,) = added_delays_s(shown([0] * half + [1] * half))
    assert 0 < delay < 0.3
    assert added_delays_s(shown([0] * 2 * half)) == []
    assert added_delays_s(shown(jittering + [2] * half)) == [], "the first label is not sure"


def test_boxes_are_met_where_they_overlap():
    there, near, far = (shown([0] * 10, box=box) for box in
                        ((0, 0, 10, 10), (2, 0, 12, 10), (20, 0, 30, 10)))
    assert matching_boxes(there, near) == (10, 10, 10)
    assert matching_boxes(there, far)[:2] == (10, 0)
    assert matching_boxes(there, TrackRun([Faces.empty()] * 10, there.times_s))[:2] == (10, 0)


def test_a_clip_shows_four_faces_and_changes_them_in_the_middle(
    faces_48px, detector_path, tmp_path
):
    pairs = draw_faces(faces_48px, 2)
    faces = [next(pairs) for _ in PLACES]
    assert all(not np.array_equal(first, second) for first, second in faces)
    write_clip(tmp_path / "clip.mp4", faces, 1.0, 0, STILL)
    frames = [frame.frame_bgr for frame in frames_of(open_source(str(tmp_path / "clip.mp4")))]
    assert len(frames) == FPS
    steps = np.abs(np.diff(np.array(frames, int), axis=0)).mean(axis=(1, 2, 3))
    assert int(np.argmax(steps)) == FPS // 2
    with open_detector(detector_path) as finder:
        assert np.median([len(finder.detect(frame)) for frame in frames]) >= 3
