"""MA-Net as published, INT8 at 224 px: how far it may stray with the golden weights.

Its probabilities differ by about 1e-3 between faces: the labels agree wherever two classes are not
equal, and the divergence is at the resolution of float32: the mean change of a probability counts.
"""

import numpy as np
import pytest

from feredge.benchmarks.experiments.full_width import golden_state
from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.graphs.qdq import cpu_graph, tensorrt_graph
from feredge.calibration.graphs.sessions import evaluation_session, session_of
from feredge.calibration.quality.agreement import agreements, conv_macs
from feredge.calibration.ranges import Ranges
from feredge.export.models.manet import manet
from feredge.export.models.registry import NETWORKS
from feredge.export.network.to_onnx import onnx_from_torch
from feredge.runtime.spec import INPUT_NAME, CropSpec, InputSpec

SIDE = 224
MOST_MEAN_CHANGE = 2e-5  # measured 3e-6 to 6e-6 (TensorRT's graph) and 9e-6 (the CPU's)
MOST_KL = 2e-7  # nats; measured 1e-8 to 4e-8
TIE = 1e-4  # of the two best probabilities: five times the largest mean change


@pytest.fixture(scope="module")
def faces(faces_48px):
    """Twenty-four real faces; every third judges."""
    folder = FaceFolder(faces_48px, InputSpec(SIDE), CropSpec(), recommended=0)
    folder.files = folder.files[::147][:24]
    return np.concatenate(list(folder.batches()))


@pytest.mark.slow
def test_int8_at_full_width_keeps_to_its_regression_figures(faces, measured_ranges):
    model = onnx_from_torch(manet(golden_state(), 7, SIDE), SIDE)
    keep_float = NETWORKS["manet"].keep_float
    convs = quantized_convs(model.graph, keep_float)
    judging = np.arange(len(faces)) % 3 == 0
    values, count = measured_ranges(model, convs, [faces[~judging]])
    ranges = Ranges("", count, "", {}, values)
    graphs = {"tensorrt": tensorrt_graph(model, ranges, keep_float),
              "cpu-7bit": cpu_graph(model, ranges, keep_float, 7)}
    sessions = {name: evaluation_session(name, graph) for name, graph in graphs.items()}
    best = np.sort(session_of(model).run(None, {INPUT_NAME: faces})[0], axis=1)
    clear = judging & (best[:, -1] - best[:, -2] > TIE)
    assert clear.sum() >= 5
    found = agreements(session_of(model), sessions, [faces[clear]])
    macs = conv_macs(model, SIDE)
    assert sum(macs[str(conv.name)] for conv in convs) / sum(macs.values()) > 0.95
    for name, cost in found.items():
        assert cost.top1 == 1, name
        assert abs(cost.kl) < MOST_KL, name
        assert cost.mean_change < MOST_MEAN_CHANGE, name
