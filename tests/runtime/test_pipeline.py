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
