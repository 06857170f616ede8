"""fer-run's time per frame and memory, on a clip that is short for a test."""

from argparse import ArgumentParser

import pytest

from feredge.benchmarks.experiments import pipeline


@pytest.mark.slow
def test_fer_run_is_compared_with_its_networks_alone(exported, monkeypatch):
    small = {"FRAMES": 40, "WARM_UP_FRAMES": 5, "ROUNDS": 2, "EARLY": 20, "LATE": 60}
    for name, value in small.items():
        monkeypatch.setattr(pipeline, name, value)
    parser = ArgumentParser()
    pipeline.EXPERIMENT.add_arguments(parser)
    results = pipeline.measure(parser.parse_args(["--engine", str(exported / "manet.int8.onnx")]))
    assert list(results["seconds"]) == list(pipeline.NAMES)
    assert all(0 < seconds < 5 for seconds in results["seconds"].values())
    assert len(results["rounds_s"]) == 2 and len(results["rounds_s"][0]) == len(pipeline.NAMES)
    assert 50 < results["early_mb"] <= results["late_mb"] + 5
    assert "fer-run: " in pipeline.describe(results)
