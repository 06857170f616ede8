import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from feredge.calibration.graphs.sessions import session_of
from feredge.export.network.to_onnx import onnx_from_torch


class Small(nn.Module):
    """A block of every kind of layer whose form the exporter has a say in."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.deep = nn.ModuleDict({"conv": nn.Conv2d(8, 8, 3, padding=1, bias=False),
                                   "bn": nn.BatchNorm2d(8)})
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        first, second = x.chunk(2, 1)
        x = torch.cat((first, self.deep["bn"](self.deep["conv"](second))), 1)
        x = x * torch.sigmoid(x.amax(1, keepdim=True) + x.mean(1, keepdim=True))
        return torch.softmax(self.head(x.mean((2, 3))), 1)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    module = Small()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -1, 1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
    return module.eval(), onnx_from_torch(module, 32)


def test_the_graph_answers_as_torch_at_any_batch(small):
    module, model = small
    session = session_of(model)
    for batch in (1, 2, 5):
        faces = torch.rand(batch, 3, 32, 32)
        with torch.inference_mode():
            expected = module(faces).numpy()
        got = session.run(["probabilities"], {"faces": faces.numpy()})[0]
        assert np.abs(got - expected).max() < 1e-6


def test_batch_norms_are_folded_and_the_opset_is_17(small):
    model = small[1]
    operators = {node.op_type for node in model.graph}
    assert model.opset_imports[""] == 17
    assert not operators & {"BatchNormalization", "Identity", "Constant", "Reshape"}
    for node in model.graph:
        if node.op_type.startswith("Reduce"):
            assert len(node.inputs) == 1 and "axes" in node.attributes


def test_nodes_values_and_parameters_are_named_after_modules(small):
    graph = small[1].graph
    names = [node.name for node in graph]
    assert len(set(names)) == len(names)
    convs = {node.name: node for node in graph if node.op_type == "Conv"}
    assert set(convs) == {"stem.0", "deep.conv"}
    assert convs["deep.conv"].inputs[1].name == "deep.conv.weight"
    assert convs["deep.conv"].inputs[2].name == "deep.conv.bias"
    assert convs["deep.conv"].outputs[0].name == "deep.conv"
    assert {"deep.conv.weight", "deep.conv.bias", "head.weight"} <= set(graph.initializers)
    assert [value.name for value in (*graph.inputs, *graph.outputs)] == ["faces", "probabilities"]


def test_names_do_not_depend_on_the_run(small):
    again = onnx_from_torch(small[0], 32)
    assert [node.name for node in again.graph] == [node.name for node in small[1].graph]
    assert set(again.graph.initializers) == set(small[1].graph.initializers)


def test_the_channel_gate_is_as_few_operators_as_it_can_be(exported):
    graph = ir.load(exported / "manet.onnx").graph
    gate = [node.op_type for node in graph if "layer3_1_p1.0.cbam." in node.name]
    assert gate == ["ReduceMean", "ReduceMax", "Concat", "Conv", "Relu", "Conv", "Sigmoid", "Mul",
                    "ReduceMax", "ReduceMean", "Concat", "Conv", "Sigmoid", "Mul"]
