"""The soak in short: fer-run with tracks, a page and a viewer while its camera comes and goes."""

import pytest

from feredge.benchmarks.experiments.page import CAMERAS, soak


@pytest.mark.slow
def test_memory_threads_and_files_stay_as_they_are(exported, detector_path):
    rows = soak(exported / "manet.int8.onnx", str(detector_path), frames=300)
    assert rows[-1]["frames"] >= 300 and CAMERAS > 3
    settled, last = rows[len(rows) // 2], rows[-1]
    assert last["resident_mb"] < settled["resident_mb"] + 10
    assert last["threads"] <= settled["threads"] + 3 and last["files"] <= settled["files"] + 5
