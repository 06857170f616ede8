"""Identity over frames: what moves, crosses, hides, flickers and leaves."""

import numpy as np
import pytest

from feredge.runtime import Faces, open_detector
from feredge.runtime.sources import frames_of, open_source
from feredge.runtime.track.tracker import CONFIRM_S, LOST_S, Tracker, overlaps

DT = 0.04


def boxes(*centres, side=40):
    """Square faces around centres."""
    centres = np.array(centres, float).reshape(-1, 2)
    return np.concatenate([centres - side / 2, centres + side / 2], axis=1)


def found(*centres, side=40):
    corners = boxes(*centres, side=side)
    eyes = corners[:, None, :2] + np.array([side / 4, side / 4])
    return Faces.from_detections(corners, np.repeat(eyes, 5, axis=1), np.full(len(corners), 0.9))


def followed(tracker, frames, times_s=None):
    """Return the track numbers of every frame, and all events as (frame, kind, number)."""
    numbers, events = [], []
    for k, faces in enumerate(frames):
        time_s = k * DT if times_s is None else times_s[k]
        numbers.append(tracker.update(faces, time_s).track_ids.tolist())
        events += [(k, event.kind, event.track_id) for event in tracker.events]
    return numbers, events


def test_a_face_gets_a_number_after_a_tenth_of_a_second_and_keeps_it():
    numbers, events = followed(Tracker(), [found((100 + 3 * k, 80)) for k in range(25)])
    first = int(np.ceil(CONFIRM_S / DT))
    assert numbers == [[-1]] * first + [[1]] * (25 - first)
    assert events == [(first, "enter", 1)]


@pytest.mark.parametrize("rate", [2, 10, 30, 120])
def test_confirmation_takes_the_same_time_at_every_frame_rate(rate):
    times_s = np.arange(2 * rate) / rate
    _, ((k, kind, _),) = followed(Tracker(), [found((50, 50))] * len(times_s), times_s)
    assert kind == "enter"
    assert CONFIRM_S <= times_s[k] < CONFIRM_S + 1 / rate + 1e-9 and k >= 1


def test_a_flicker_never_becomes_a_person():
    frames = [found((50, 50), (200, 60)) if k % 4 == 2 else found((50, 50)) for k in range(50)]
    tracker = Tracker()
    numbers, events = followed(tracker, frames)
    assert {row[1] for row in numbers if len(row) == 2} == {-1}
    assert len(events) == 1 and len(tracker.tracks) == 1


@pytest.mark.parametrize("hidden", [0, 8], ids=["both seen", "one hidden while they cross"])
def test_faces_that_cross_keep_their_numbers(hidden):
    frames = []
    for k in range(60):
        left, right = (50 + 4 * k, 100), (286 - 4 * k, 118)
        frames.append(found(left) if abs(k - 29.5) < hidden / 2 else found(left, right))
    numbers, _ = followed(Tracker(), frames)
    assert numbers[10] == numbers[-1] == [1, 2]
    assert all(row[0] == 1 for row in numbers[10:])


def test_the_order_of_detections_does_not_matter():
    rng = np.random.default_rng(0)
    centres = np.array([(50, 50), (120, 60), (200, 200), (300, 80)])
    tracker, rows = Tracker(), []
    for k in range(30):
        order = rng.permutation(4)
        faces = tracker.update(found(*(centres[order] + 2 * k)), k * DT)
        rows.append(faces.track_ids[np.argsort(order)].tolist())
    assert sorted(rows[3]) == [1, 2, 3, 4]
    assert all(row == rows[3] for row in rows[3:])


@pytest.mark.parametrize("gap_s, same", [(0.3, True), (0.8, True), (LOST_S + 0.2, False)])
def test_a_face_that_was_hidden_is_the_same_person_for_a_while(gap_s, same):
    missing = round(gap_s / DT)
    frames = [found((100, 100))] * 20 + [Faces.empty()] * missing + [found((104, 98))] * 20
    numbers, events = followed(Tracker(), frames)
    assert (numbers[-1] == [1]) == same
    assert [kind for _, kind, _ in events] == ["enter"] + (["exit", "enter"] if not same else [])
    if not same:
        left = events[1][0] * DT - 19 * DT
        assert LOST_S < left <= LOST_S + 2 * DT


def test_dropped_frames_do_not_change_who_is_who():
    rng = np.random.default_rng(1)
    times_s = np.cumsum(rng.choice([0.02, 0.04, 0.15, 0.3], 80))
    frames = [found((100 + 60 * t, 100), (400 - 30 * t, 90)) for t in times_s]
    numbers, events = followed(Tracker(), frames, times_s)
    assert len(events) == 2 and all(row == [1, 2] for row in numbers[5:])


def test_identical_boxes_are_two_people_and_nothing_is_nobody():
    tracker = Tracker()
    numbers, _ = followed(tracker, [found((50, 50), (50, 50))] * 10)
    assert sorted(numbers[-1]) == [1, 2]
    assert len(tracker.update(Faces.empty(), 10 * DT)) == 0
    assert len(Tracker().predict(0.0)) == len(Tracker().update(Faces.empty(), 0.0)) == 0


def test_a_clock_that_stands_still_or_is_set_back_does_no_harm():
    tracker = Tracker()
    numbers, events = followed(tracker, [found((50, 50))] * 30, [0, 0.1, 0.1, 9, 9.04] + [0.0] * 25)
    assert numbers[-1] == [1] and len(events) == 1
    assert np.isfinite(tracker.tracks[0].covariance).all()


def test_boxes_and_landmarks_are_carried_to_where_the_face_is():
    tracker = Tracker()
    for k in range(25):
        tracker.update(found((100 + 200 * k * DT, 80 + 50 * k * DT)), k * DT)
    for later in (25, 26):
        moved = tracker.predict(later * DT)
        truth = found((100 + 200 * later * DT, 80 + 50 * later * DT))
        assert moved.track_ids.tolist() == [1]
        np.testing.assert_allclose(moved.boxes_xyxy, truth.boxes_xyxy, atol=1.5)
        np.testing.assert_allclose(moved.landmarks, truth.landmarks, atol=1.5)
        assert moved.boxes_xyxy.dtype == moved.landmarks.dtype == np.float32


def test_many_short_steps_come_to_the_same_as_a_long_one():
    trackers = Tracker(), Tracker()
    for tracker in trackers:
        followed(tracker, [found((100 + 5 * k, 80)) for k in range(10)])
    for k in range(1, 10):
        trackers[0].predict(9 * DT + k * 0.1)
    once, often = (tracker.predict(9 * DT + 1.0) for tracker in trackers)
    np.testing.assert_allclose(once.boxes_xyxy, often.boxes_xyxy, rtol=1e-5)
    first, second = (tracker.tracks[0].covariance for tracker in trackers)
    np.testing.assert_allclose(first, second)


def test_faces_that_were_missed_are_carried_only_where_asked_for():
    tracker = Tracker()
    followed(tracker, [found((50, 50), (200, 50))] * 10 + [found((50, 50))])
    assert tracker.predict(11 * DT).track_ids.tolist() == [1]
    assert sorted(tracker.predict(11 * DT, unseen=True).track_ids.tolist()) == [1, 2]


def test_what_a_face_carries_stays_with_it():
    tracker = Tracker()
    probabilities = np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)
    tracker.update(found((50, 50), (200, 50)).with_probabilities(probabilities), 0.0)
    carried = tracker.predict(DT)
    assert carried.label_ids.tolist() == [1, 0] and carried.scores.tolist() == [np.float32(0.9)] * 2


@pytest.mark.parametrize("first, second, expected", [
    ((0, 0, 2, 2), (0, 0, 2, 2), 1), ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
    ((0, 0, 2, 2), (2, 0, 4, 2), 0), ((0, 0, 0, 0), (0, 0, 0, 0), 0),
], ids=["the same", "half", "side by side", "no area"])
def test_overlaps(first, second, expected):
    value = overlaps(np.array([first], float), np.array([second], float))
    assert value[0, 0] == pytest.approx(expected)


def test_real_faces_that_move_about_are_two_people(detector_path, astronaut, write_clip):
    """Two portraits that jitter past each other, found by the detector in a compressed clip."""
    rng = np.random.default_rng(2)
    face, frames = astronaut[0:240, 120:320], []
    for k in range(50):
        frame = np.full((480, 640, 3), 110, np.uint8)
        for left, top, part in ((10 + 2 * k, 10, face), (420 - 2 * k, 220, face[:, ::-1])):
            x, y = np.clip(np.array([left, top]) + rng.integers(-3, 4, 2), 0, 600)
            frame[y : y + 240, x : x + 200] = part
        frames.append(frame)
    tracker, seen = Tracker(), []
    with open_detector(detector_path) as finder:
        for frame in frames_of(open_source(str(write_clip(frames)))):
            seen.append(tracker.update(finder.detect(frame.frame_bgr), frame.time_s))
    assert next(tracker.track_ids) == 3
    for faces in seen[5:]:
        assert sorted(faces.track_ids.tolist()) == [1, 2]
        by_number = faces.boxes_xyxy[np.argsort(faces.track_ids)]
        assert (by_number[:, 1] < 200).tolist() == (seen[5].boxes_xyxy[
            np.argsort(seen[5].track_ids)][:, 1] < 200).tolist()
