"""Fixtures: a small engine that opens at once, pictures, and workers that a picture kills."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

LABELS = ("neutral", "happiness", "surprise", "sadness")
# Every process that opens a file called poison ends as by a segmentation fault: the driver opens no
# pictures, so that only workers do.
POISON = """
import os, signal, sys

def end_at_poison(event, arguments):
    if event == "open" and "poison" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(end_at_poison)
"""


def small_engine(path: Path, seed: int = 0, random_weights: bool = False) -> Path:
    """Write a network of one layer over the mean color of a crop, with its ModelSpec."""
    import onnx
    from onnx import helper, numpy_helper

    from feredge.runtime.spec import InputSpec, ModelSpec, SourceSpec

    random = np.random.default_rng(seed)
    weights = {"w": random.normal(0, 9, (3, len(LABELS))), "b": np.zeros(len(LABELS))}
    nodes = [
        helper.make_node("GlobalAveragePool", ["faces"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "small", [value("faces", 1, ["n", 3, 32, 32])],
        [value("probabilities", 1, ["n", len(LABELS)])],
        [numpy_helper.from_array(array.astype(np.float32), name)
         for name, array in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = ModelSpec("small", "test", LABELS, InputSpec(32),
                     SourceSpec("0" * 64, random_weights=random_weights))
    helper.set_model_props(model, {"feredge": spec.to_json()})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def engine(tmp_path_factory) -> Path:
    return small_engine(tmp_path_factory.mktemp("engine") / "small.onnx")


def write_pictures(folder: Path, astronaut: np.ndarray, count: int) -> Path:
    """Write pictures that differ in size, position and color, with a face in each."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        side = 160 + 8 * (k % 12)
        picture = cv2.resize(np.roll(astronaut[:320, 60:380], 4 * k, axis=1), (side, side))
        tinted = cv2.add(picture, np.array([k * 3 % 50, k * 5 % 50, k * 7 % 50, 0], float))
        cv2.imwrite(str(folder / f"{k:04}.jpg"), tinted)
    return folder


@pytest.fixture
def pictures(tmp_path, astronaut) -> Path:
    """20 pictures."""
    return write_pictures(tmp_path / "pictures", astronaut, 20)


@pytest.fixture
def poison(tmp_path, monkeypatch) -> None:
    """A file called poison ends the process that opens it."""
    import os

    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(POISON)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.fixture
def options(engine, tmp_path, pictures):
    """Options of a run with two processes; keywords replace them."""
    from feredge.runtime.batch import BatchOptions

    def build(**changes):
        given = {"sources": (str(pictures),), "output": str(tmp_path / "out"),
                 "engine": str(engine), "ray": "none", "workers": 1}
        return BatchOptions(**given | changes)

    return build


@pytest.fixture
def read_rows():
    """Read the rows of an output, as every reader of Arrow data sets does, ordered."""
    import pyarrow.dataset

    def read(output) -> list[dict]:
        rows = pyarrow.dataset.dataset(str(output)).to_table().to_pylist()
        return sorted(rows, key=lambda row: (row["unit"], row["frame"] or 0))

    return read


@pytest.fixture
def new_engine():
    return small_engine


@pytest.fixture
def new_pictures(astronaut):
    return lambda folder, count: write_pictures(folder, astronaut, count)


@pytest.fixture
def command(engine, tmp_path, pictures):
    """The command of the run that `options` describes, for a process of its own."""
    import sys

    return [sys.executable, "-m", "feredge.runtime.fer_batch", "--source", str(pictures),
            "--output", str(tmp_path / "out"), "--engine", str(engine), "--ray", "none",
            "--workers", "2"]
