import time

import cv2
import numpy as np
import pytest

from feredge.runtime import Faces, classify, open_detector, open_engine
from feredge.runtime.errors import SourceError, UsageError
from feredge.runtime.pipeline import Pipeline, PipelineOptions
from feredge.runtime.results import Frame, FrameResult
from feredge.runtime.sources import frames_of, open_source
from feredge.runtime.timing import Latencies
from feredge.runtime.track.options import TrackOptions
from feredge.runtime.track.tracker import overlaps

UNTRACKED = TrackOptions(track=False)


@pytest.mark.parametrize("scale_s", [1e-5, 1e-3, 0.1])
def test_percentiles_are_within_two_percent(scale_s):
    samples = np.random.default_rng(0).lognormal(0, 0.5, 5000) * scale_s
    latencies = Latencies()
    for sample in samples:
        latencies.add(float(sample))
    for percent in (50, 95):
        expected = np.percentile(samples, percent) * 1e3
        assert latencies.percentile_ms(percent) == pytest.approx(expected, rel=0.02)


def test_no_samples_have_no_percentile_and_extremes_have_one():
    latencies = Latencies()
    assert latencies.percentile_ms(50) is None
    latencies.add(0)
    latencies.add(1e9)
    assert latencies.percentile_ms(100) > 1e5


def test_classify_finds_and_labels_a_face(exported, detector_path, astronaut):
    int8 = exported / "manet.int8.onnx"
    with open_engine(int8) as engine, open_detector(detector_path) as finder:
        faces = classify(astronaut, finder, engine)
        assert len(classify(astronaut, finder, engine, max_faces=0)) == 0
        assert classify(np.zeros((9, 9, 3), np.uint8), finder, engine).probabilities.shape == (0, 8)
    assert engine.spec.labels[faces.probabilities[0].argmax()] == "happiness"


class Kept:
    """An output that keeps what it is given, and may stop the source."""

    def __init__(self, stop_after=None, source=None):
        self.rows, self.answers, self.stop_after, self.source = [], [], stop_after, source

    def write(self, answer):
        self.write_annotated(answer, None)

    def write_annotated(self, answer, drawn):
        self.answers.append(answer)
        faces = answer.faces
        self.rows.append((answer.frame.index, faces.boxes_xyxy, faces.probabilities, drawn))
        if len(self.rows) == self.stop_after:
            self.source.stop()


@pytest.fixture
def turning(astronaut, write_clip):
    """A clip of the portrait at sizes that take different times, also without a face."""
    frames = [np.roll(astronaut, 7 * k, axis=1) if k % 5 else np.zeros_like(astronaut)
              for k in range(30)]
    return str(write_clip(frames))


def test_frames_side_by_side_give_the_same_in_the_same_order(exported, detector_path, turning):
    def rows(at_once):
        kept, source = Kept(), open_source(turning)
        with open_engine(exported / "manet.int8.onnx", threads=1) as engine, \
                open_detector(detector_path, threads=1) as finder:
            pipeline = Pipeline(source, finder, engine, [], [kept],
                                PipelineOptions(concurrent_frames=at_once, tracks=UNTRACKED))
            pipeline.run()
        assert set(pipeline.summary().stages) == {"read", "detect", "classify", "draw", "write"}
        return kept.rows

    one, several = rows(1), rows(4)
    assert [row[0] for row in several] == list(range(30))
    assert sum(len(row[1]) for row in one) >= 20
    for expected, got in zip(one, several):
        for first, second in zip(expected[1:], got[1:]):
            np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_stop_ends_frames_side_by_side_at_once(exported, detector_path, turning):
    source = open_source(turning)
    kept = Kept(3, source)
    with open_engine(exported / "manet.int8.onnx", threads=1) as engine, \
            open_detector(detector_path, threads=1) as finder:
        Pipeline(source, finder, engine, [kept], options=PipelineOptions(
            concurrent_frames=4, tracks=UNTRACKED)).run()
    assert [row[0] for row in kept.rows] == [0, 1, 2]


def test_the_summary_counts_frames_faces_and_times(exported, detector_path, astronaut, write_clip):
    source = open_source(str(write_clip([astronaut] * 12)))
    int8 = exported / "manet.int8.onnx"
    with open_engine(int8) as engine, open_detector(detector_path) as finder:
        started = time.perf_counter()
        pipeline = Pipeline(source, finder, engine, options=PipelineOptions(tracks=UNTRACKED))
        pipeline.run()
        elapsed_ms = (time.perf_counter() - started) * 1e3
    summary = pipeline.summary()
    assert (summary.frames, summary.faces, summary.dropped) == (12, 12, 0)
    assert set(summary.stages) == {"read", "detect", "classify", "write"}
    total_ms = sum(stage.median_ms for stage in summary.stages.values()) * 12
    assert 0 < total_ms < elapsed_ms * 1.1
    assert "12 frames, 12 faces" in str(summary)
    source.close()


@pytest.fixture
def moving(astronaut, write_clip):
    """A clip of two portraits, one that moves and one that leaves after two seconds."""
    face, frames = cv2.resize(astronaut[0:240, 120:320], (150, 180)), []
    for k in range(100):
        frame = np.full((240, 480, 3), 110, np.uint8)
        frame[20:200, 5 + k : 155 + k] = face
        if k < 50:
            frame[30:210, 320:470] = face[:, ::-1]
        frames.append(frame)
    return str(write_clip(frames))


@pytest.fixture
def tracked(exported, detector_path, moving):
    """Run the moving clip with tracks; returns every answer and the pipeline."""

    def call(at_once=1, reuse=None, **options):
        kept, source = Kept(), open_source(moving)
        draws = options.pop("draws", False)
        with open_engine(exported / "manet.int8.onnx", threads=1) as engine, \
                open_detector(detector_path, threads=1) as finder:
            pipeline = Pipeline(
                source, finder, engine, [] if draws else [kept], [kept] if draws else [],
                PipelineOptions(concurrent_frames=at_once, tracks=TrackOptions(
                    reuse=reuse, detect_every=options.pop("detect_every", 1)), **options))
            pipeline.run()
        source.close()
        (used,) = pipeline.tracks.values()
        rows = [(answer, row[3]) for answer, row in zip(kept.answers, kept.rows)]
        return rows if draws else kept.answers, used

    return call


def test_tracks_are_the_same_with_frames_side_by_side(tracked):
    (one, _), (several, _) = tracked(1), tracked(4)
    assert len(one) == 100
    for first, second in zip(one, several):
        assert first.faces.track_ids.tolist() == second.faces.track_ids.tolist()
        assert first.faces.label_ids.tolist() == second.faces.label_ids.tolist()
        assert first.events == second.events
        np.testing.assert_allclose(first.faces.probabilities, second.faces.probabilities, atol=1e-5)


def test_persons_come_and_leave_once(tracked):
    answers, _ = tracked()
    events = [(k, event.kind) for k, answer in enumerate(answers) for event in answer.events]
    assert [kind for _, kind in events] == ["enter", "enter", "exit"]
    assert all(k < 10 for k, _ in events[:2]) and 75 <= events[2][0] <= 79
    assert sorted(answers[30].faces.track_ids.tolist()) == [1, 2]
    assert len(answers[60].faces) == 1


@pytest.mark.parametrize("at_once", [1, 3])
def test_tracks_carry_boxes_and_labels_between_searches(tracked, at_once):
    (every, _), (third, _) = tracked(), tracked(at_once, detect_every=3)
    assert [answer.is_detected for answer in third] == [k % 3 == 0 for k in range(100)]
    assert all("detect" not in answer.times_s for answer in third if not answer.is_detected)
    overlapping = 0
    for expected, got in zip(every, third):
        best = overlaps(expected.faces.boxes_xyxy, got.faces.boxes_xyxy)
        overlapping += np.count_nonzero(best.max(axis=1, initial=0) >= 0.5)
        assert got.faces.probabilities.shape == (len(got.faces), 8)
    assert overlapping >= 0.95 * sum(len(answer.faces) for answer in every)
    names = {(t, label) for answer in third[10:] for t, label in zip(
        answer.faces.track_ids.tolist(), answer.faces.label_ids.tolist())}
    assert len(names) == 2, "two persons, one label each"


def test_carried_faces_that_left_the_frame_are_not_shown(exported, detector_path, write_clip):
    frames = [np.zeros((64, 64, 3), np.uint8)] * 4
    with open_engine(exported / "manet.int8.onnx") as engine, open_detector(detector_path) as found:
        pipeline = Pipeline(open_source(str(write_clip(frames))), found, engine)
        stream = pipeline.tracks_of(Frame(0, frames[0], "x"))
        for k in range(3):
            box = np.array([[10.0 - 20 * k, 10, 30 - 20 * k, 30]])
            faces = Faces.from_detections(box, np.zeros((1, 5, 2)), np.ones(1))
            stream.tracker.update(faces, k / 25)
        answer = FrameResult(Frame(3, frames[0], "x", 0.5), is_detected=False)
        stream.track(answer)
    assert len(answer.faces) == 0


def test_a_face_that_stands_still_is_classified_once(tracked):
    answers, state = tracked(reuse=6.0)
    assert 0.5 * state.reuse.total < state.reuse.reused < state.reuse.total
    plain, _ = tracked()
    for first, second in zip(plain, answers):
        assert first.faces.label_ids.tolist() == second.faces.label_ids.tolist()


def test_faces_are_blurred_beyond_recognition(tracked, moving, detector_path):
    rows, _ = tracked(draws=True, blur=True, max_faces=1)
    originals = list(frames_of(open_source(moving)))
    with open_detector(detector_path) as finder:
        for answer, drawn in rows[::9]:
            assert len(answer.detections) >= 1
            assert len(finder.detect(drawn)) == 0
            assert len(finder.detect(answer.frame.frame_bgr)) == 0, "outputs see blurred frames"
            assert len(finder.detect(originals[answer.frame.index].frame_bgr)) >= 1


def test_a_face_that_the_detector_missed_is_blurred_where_it_should_be(
    exported, detector_path, moving
):
    class Blinking:
        """A detector that sees nothing in every fifth frame."""

        def __init__(self, detector):
            self.detector, self.calls = detector, 0

        def detect(self, frame_bgr):
            self.calls += 1
            return Faces.empty() if self.calls % 5 == 0 else self.detector.detect(frame_bgr)

    kept, source = Kept(), open_source(moving)
    with open_engine(exported / "manet.int8.onnx") as engine, open_detector(detector_path) as found:
        Pipeline(source, Blinking(found), engine, [], [kept], PipelineOptions(blur=True)).run()
        missed = [(answer, row[3]) for answer, row in zip(kept.answers[6:], kept.rows[6:])
                  if len(answer.detections) == 0]
        originals = list(frames_of(open_source(moving)))
        assert len(missed) >= 15
        for answer, drawn in missed[::3]:
            original_bgr = originals[answer.frame.index].frame_bgr
            assert len(answer.faces) == 0 and len(found.detect(original_bgr)) >= 1
            assert len(found.detect(drawn)) == 0


def test_classify_of_a_picture_that_could_not_be_read_says_so(exported, detector_path):
    int8 = exported / "manet.int8.onnx"
    with open_engine(int8) as engine, open_detector(detector_path) as finder:
        with pytest.raises(SourceError, match=r"frame_bgr is None.*cv2.imread"):
            classify(cv2.imread("/nowhere.png"), finder, engine)


@pytest.mark.parametrize("wrong, said", [
    ({"max_faces": -1}, "max_faces is -1"), ({"concurrent_frames": 0}, "concurrent_frames is 0"),
    ({"concurrent_frames": 2, "tracks": TrackOptions(reuse=4)}, "reuse needs"),
])
def test_options_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(UsageError, match=said):
        PipelineOptions(**wrong)
