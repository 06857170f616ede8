import time

import numpy as np
import pytest

from feredge.runtime import classify, open_detector, open_engine
from feredge.runtime.pipeline import Latencies, Pipeline
from feredge.runtime.sources import open_source


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

    draws = True

    def __init__(self, stop_after=None, source=None):
        self.rows, self.stop_after, self.source = [], stop_after, source

    def write(self, frame, faces, drawn):
        self.rows.append((frame.index, faces.boxes_xyxy, faces.probabilities, drawn))
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
            pipeline = Pipeline(source, finder, engine, [kept], at_once=at_once)
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
        Pipeline(source, finder, engine, [kept], at_once=4).run()
    assert [row[0] for row in kept.rows] == [0, 1, 2]


def test_the_summary_counts_frames_faces_and_times(exported, detector_path, astronaut, write_clip):
    source = open_source(str(write_clip([astronaut] * 12)))
    int8 = exported / "manet.int8.onnx"
    with open_engine(int8) as engine, open_detector(detector_path) as finder:
        started = time.perf_counter()
        pipeline = Pipeline(source, finder, engine, [])
        pipeline.run()
        elapsed_ms = (time.perf_counter() - started) * 1e3
    summary = pipeline.summary()
    assert (summary.frames, summary.faces, summary.dropped) == (12, 12, 0)
    assert set(summary.stages) == {"read", "detect", "classify", "write"}
    total_ms = sum(stage.median_ms for stage in summary.stages.values()) * 12
    assert 0 < total_ms < elapsed_ms * 1.1
    assert "12 frames, 12 faces" in str(summary)
    source.close()
