"""DSAN against its description, its predecessor, and what an export makes of it."""

import json
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch.nn import functional as F

from feredge.calibration.graphs.placement import quantized_convs
from feredge.export.fer_export import main
from feredge.export.models.dsan import (
    BACKBONE,
    KEEP_FLOAT,
    Dsan,
    dsan,
    dsan_resnet18,
)
from feredge.export.network.to_onnx import onnx_from_torch
from feredge.runtime import open_engine
from feredge.runtime.errors import CheckpointError

FACTORIES = {"vgg16": dsan, "resnet18": dsan_resnet18}
# Of the six maps, shallow to deep: the strides, and the kernel of each side branch.
STRIDES = {"vgg16": (1, 2, 4, 8, 16, 16), "resnet18": (2, 4, 8, 16, 32, 32)}
KERNELS = (3, 3, 5, 5, 5, 7)
# What is joined with a map's own scores: its side output where it is not joined itself.
JOINED = {0: ("sides.5.score", "sides.4.score", "joins.3", "joins.2"),
          1: ("sides.5.score", "sides.4.score", "joins.3", "joins.2"),
          2: ("sides.5.score", "sides.4.score"), 3: ("sides.5.score", "sides.4.score")}
both = pytest.mark.parametrize("backbone", ["vgg16", "resnet18"])


def small(backbone, attention="cbam", classes=7, side=64):
    """A network of quarter width whose weights all differ."""
    torch.manual_seed(0)
    network = Dsan(backbone, classes, side, attention, width=0.25).eval()
    for join in (network.fusion, *network.joins.values()):
        torch.nn.init.normal_(join.weight)
    return network


def described_logits(network, faces):
    """The heads' scores, written down from the description once more."""
    branches = zip(network.taps(faces), network.attention, network.sides, KERNELS)
    features = [F.relu(F.conv2d(gate(tap), side.conv.weight, side.conv.bias, padding=kernel // 2))
                for tap, gate, side, kernel in branches]
    s = [F.conv2d(feature, side.score.weight, side.score.bias)
         for feature, side in zip(features, network.sides)]

    def joined(k, *deeper):
        maps = [s[k], *(F.interpolate(m, s[k].shape[2:], mode="bilinear") for m in deeper)]
        conv = network.joins[str(k)]
        return F.conv2d(torch.cat(maps, 1), conv.weight, conv.bias)

    m6, m5 = s[5], s[4]
    m4, m3 = joined(3, m6, m5), joined(2, m6, m5)
    m2, m1 = joined(1, m6, m5, m4, m3), joined(0, m6, m5, m4, m3)
    whole = [F.interpolate(m, faces.shape[2:], mode="bilinear") for m in (m1, m2, m3, m4, m5, m6)]
    fused = F.conv2d(torch.cat(whole, 1), network.fusion.weight, network.fusion.bias)
    pairs = zip((*network.heads, network.fused_head), (m1, m2, m3, m4, m5, m6, fused))
    return [head(m.flatten(1)) for head, m in pairs]


@both
@pytest.mark.parametrize("attention", ["cbam", "none"])
def test_maps_are_joined_and_fused_as_described(backbone, attention):
    network = small(backbone, attention)
    faces = torch.randn(2, 3, 64, 64) * 60
    with torch.inference_mode():
        logits, expected = network.logits(faces), described_logits(network, faces)
        answer = network(faces)
    assert len(logits) == 7
    for got, wanted in zip(logits, expected):
        assert torch.allclose(got, wanted, atol=1e-4)
    mean = sum(scores.softmax(1) for scores in expected) / 7
    assert torch.allclose(answer, mean, atol=1e-5)


@both
def test_the_trunk_is_tapped_after_its_five_groups_and_a_pooling(backbone):
    network = small(backbone)
    with torch.inference_mode():
        taps = network.taps(torch.randn(1, 3, 64, 64))
    assert [64 // tap.shape[2] for tap in taps] == list(STRIDES[backbone])
    assert torch.equal(taps[5], F.avg_pool2d(taps[4], 3, 1, 1))
    convs = [m for m in network.trunk.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convs) == {"vgg16": 13, "resnet18": 20}[backbone]


@pytest.fixture(scope="module")
def predecessor():
    """The graph without attention."""
    return onnx_from_torch(small("vgg16", "none"), 64).graph


def test_without_attention_the_graph_is_the_predecessors(predecessor):
    convs = {node.name: tuple(node.inputs[1].shape) for node in predecessor
             if node.op_type == "Conv"}
    channels = (16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128)
    trunk = [shape for name, shape in convs.items() if name.startswith("trunk.")]
    assert trunk == [(c, before, 3, 3) for c, before in zip(channels, (3, *channels))]
    sides = [(16, 16, 3, 3), (16, 32, 3, 3), (32, 64, 5, 5), (32, 128, 5, 5), (64, 128, 5, 5),
             (64, 128, 7, 7)]
    assert [convs[f"sides.{k}.conv"] for k in range(6)] == sides
    assert [convs[f"sides.{k}.score"] for k in range(6)] == [(1, s[0], 1, 1) for s in sides]
    assert {name: convs[name][1] for name in convs if name.startswith(("joins", "fusion"))} == {
        "joins.0": 5, "joins.1": 5, "joins.2": 3, "joins.3": 3, "fusion": 6}
    assert len(convs) == 13 + 12 + 5
    operators = {node.op_type for node in predecessor}
    assert not operators & {"Sigmoid", "Mul", "ReduceMax", "BatchNormalization", "Add"}


def test_short_connections_run_from_deep_to_shallow(predecessor):
    strides = STRIDES["vgg16"]
    for node in predecessor:
        if node.op_type != "Conv" or not node.name.startswith("joins."):
            continue
        k = int(node.name[-1])
        own, *deeper = node.inputs[0].producer().inputs
        assert own.producer().name == f"sides.{k}.score"
        sources = [value.producer() for value in deeper]
        assert all(resize.attributes["coordinate_transformation_mode"].value == "half_pixel"
                   and resize.attributes["mode"].value == "linear" for resize in sources)
        assert tuple(resize.inputs[0].producer().name for resize in sources) == JOINED[k]
        for resize in sources:
            deep = int(resize.inputs[0].producer().name.split(".")[1])
            scales = ir.convenience.get_const_tensor(resize.inputs[2]).numpy()
            assert scales.tolist() == [1, 1, strides[deep] / strides[k], strides[deep] / strides[k]]


@both
def test_every_head_learns_with_the_same_weight(backbone):
    torch.manual_seed(0)
    network = Dsan(backbone, 3, 32, width=0.25)
    faces, targets = torch.randn(3, 3, 32, 32) * 60, torch.arange(3)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(5):
        logits = network.logits(faces)
        loss = torch.stack([F.cross_entropy(scores, targets) for scores in logits]).sum()
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.98 * losses[0]


@both
@pytest.mark.parametrize("attention", ["cbam", "none"])
def test_a_checkpoint_tells_classes_side_attention_and_width(backbone, attention):
    network = small(backbone, attention, classes=5, side=32)
    again = FACTORIES[backbone](network.state_dict())
    assert (again.side_px, again.variant) == (32, f"{attention}-w25")
    again.load_state_dict(network.state_dict())
    faces = torch.randn(1, 3, 32, 32)
    assert torch.equal(again.eval()(faces), network(faces))


@both
def test_the_other_backbones_checkpoint_is_refused(backbone):
    other = "resnet18" if backbone == "vgg16" else "vgg16"
    with pytest.raises(CheckpointError, match=f"not {backbone}: --model dsan takes vgg16"):
        FACTORIES[backbone](small(other, side=32).state_dict())


@both
def test_the_fusion_starts_as_the_mean_of_the_maps(backbone):
    network = Dsan(backbone, side=32, width=0.25)
    assert torch.equal(network.fusion.weight, torch.full((1, 6, 1, 1), 1 / 6))


@pytest.fixture(scope="module", params=["vgg16", "resnet18"])
def plan(request, rtx, faces_48px, tmp_path_factory):
    """A small network in every form that fer-export writes, with its two-precision plan."""
    folder = tmp_path_factory.mktemp(request.param)
    faces = folder / "faces"
    faces.mkdir()
    for file in sorted(Path(faces_48px).rglob("*.png"))[::150]:
        (faces / file.name).write_bytes(file.read_bytes())
    torch.save(small(request.param).state_dict(), folder / "small.pth")
    name = {"vgg16": "dsan", "resnet18": "dsan-resnet18"}[request.param]
    assert main(["--model", name, "--checkpoint", str(folder / "small.pth"), "--int8", "--fp16",
                 "--calibration-data", str(faces), "--target", "tensorrt-rtx", "--name", "net",
                 "--output", str(folder)]) == 0
    return folder


def test_an_export_is_whole_from_checkpoint_to_plan(plan):
    report = json.loads((plan / "net.report.json").read_text())
    assert report["parity"]["largest_difference"] < 1e-4
    for file in ("net.int8.onnx", "net.int8.qdq.onnx"):
        assert report["int8"][file]["int8_share"] > 0.95
        assert report["int8"][file]["agreement"]["mean_change"] < 0.02
    assert report["plan"]["int8_share"] > 0.95 and report["plan"]["kind"] == "tensorrt-rtx"
    assert (plan / "net.plan").stat().st_size == report["plan"]["bytes"]


def test_its_input_is_told_by_the_spec_alone(plan, astronaut):
    with open_engine(plan / "net.onnx") as engine:
        spec = engine.spec
        probabilities = engine.classify(astronaut, torch.tensor([[170.0, 60, 290, 210]]).numpy())
    assert (spec.input.side, spec.input.channels) == (64, "bgr")
    assert [255 * value for value in spec.input.mean] == pytest.approx([103.939, 116.779, 123.68])
    assert [255 * value for value in spec.input.std] == pytest.approx([1, 1, 1])
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_gates_and_maps_of_one_channel_stay_float(plan):
    graph = ir.load(plan / "net.onnx").graph
    convs = {conv.name for conv in quantized_convs(graph, KEEP_FLOAT)}
    others = {node.name for node in graph if node.op_type == "Conv"} - convs
    assert all(name.startswith(("attention.", "joins.", "fusion")) or name.endswith(".score")
               for name in others)
    assert {f"sides.{k}.conv" for k in range(6)} <= convs and "trunk.0.0" in convs
    quantised = {node.inputs[0].producer() for node in ir.load(plan / "net.int8.qdq.onnx").graph
                 if node.op_type == "QuantizeLinear"}
    assert not {node.op_type for node in quantised if node} & {"Resize", "Concat", "Gemm"}


def test_the_backbone_is_the_trunk():
    assert BACKBONE == ("trunk.*",)
