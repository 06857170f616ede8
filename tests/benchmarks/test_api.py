"""The public names of the room, and the same run from Python as from the command."""

import json

import feredge.benchmarks as room
from feredge.benchmarks import BenchOptions, EvalOptions, benchmark, evaluate


def test_the_public_names_are_these():
    assert room.__all__ == ["BenchOptions", "EvalOptions", "benchmark", "evaluate"]
    assert dir(room) == room.__all__ and all(hasattr(room, name) for name in room.__all__)


def test_a_benchmark_runs_from_python(exported, tmp_path):
    report = benchmark(BenchOptions([exported / "manet.onnx"], batches=(1,), duration_s=0.05,
                                    warm_up_s=0.01, json=tmp_path / "latency.json"))
    (row,) = report["rows"]
    assert row["median_s"] > 0 and row["engine"] == "manet.onnx"
    assert json.loads((tmp_path / "latency.json").read_text())["rows"] == [row]


def test_an_evaluation_runs_from_python(exported, faces_48px, tmp_path):
    for folder in ("1_happiness", "4_anger"):
        (tmp_path / "faces" / folder).mkdir(parents=True)
        for file in sorted((faces_48px / folder).iterdir())[:10]:
            (tmp_path / "faces" / folder / file.name).symlink_to(file)
    evaluation = evaluate(EvalOptions([exported / "manet.onnx"], tmp_path / "faces"))
    (engine,) = evaluation.engines
    assert evaluation.faces == 20 and engine.scores.accuracy.value > 0.5
