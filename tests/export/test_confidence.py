"""Temperature scaling: fitted on one half, measured on the other, labels unchanged."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.quality.reliability import expected_calibration_error
from feredge.export.confidence import fit_temperature, scale_probabilities, with_temperature
from feredge.export.fp16 import fp16_graph
from feredge.export.network.to_onnx import onnx_from_torch
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
              nn.Linear(16, 3), nn.Softmax(dim=1))
    return onnx_from_torch(nn.Sequential(*layers).eval(), 32)


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_overconfident_probabilities_is_found(temperature):
    rng = np.random.default_rng(0)
    true = softmax(rng.normal(0, 2, (4000, 5)))
    classes = np.array([rng.choice(5, p=row) for row in true])
    stated = scale_probabilities(true, 1 / temperature)
    found = fit_temperature(stated, classes)
    assert found == pytest.approx(temperature, rel=0.08)
    assert expected_calibration_error(scale_probabilities(stated, found), classes) < 0.03


@pytest.mark.parametrize("temperature", [0.67, 1.8])
def test_the_graph_computes_the_same_and_keeps_every_label(network, temperature):
    faces = np.random.default_rng(1).random((64, 3, 32, 32), np.float32)
    before, after = (session_of(graph).run([OUTPUT_NAME], {INPUT_NAME: faces})[0]
                     for graph in (network, with_temperature(network, temperature)))
    assert (before.argmax(1) == after.argmax(1)).all()
    np.testing.assert_allclose(after, scale_probabilities(before, temperature), atol=1e-6)
    assert network.graph.outputs[0].name == OUTPUT_NAME, "the graph given is left as it was"


def test_the_graph_can_be_saved_and_converted(network, tmp_path):
    model = with_temperature(network, 1.5)
    ir.save(model, tmp_path / "a.onnx")
    faces = np.zeros((2, 3, 32, 32), np.float32)
    for graph in (ir.load(tmp_path / "a.onnx"), fp16_graph(model)):
        found = session_of(graph, integer_kernels=False).run([OUTPUT_NAME], {INPUT_NAME: faces})[0]
        assert found.shape == (2, 3) and np.allclose(found.sum(1), 1, atol=1e-5)


def test_certain_probabilities_stay_finite():
    assert scale_probabilities(np.array([[1.0, 0.0]]), 2.0).tolist() == [[1.0, 0.0]]


def test_it_needs_labeled_faces(line):
    assert "--calibrate-confidence needs labeled faces" in line("--model", "manet",
                                                                "--calibrate-confidence")
