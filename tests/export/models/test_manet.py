from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from feredge.benchmarks.experiments.full_width import golden_state
from feredge.export.models.blocks import Cbam, ChannelGate
from feredge.export.models.manet import MaNet, manet

WEIGHTS = Path(__file__).parents[3] / "export" / "weights" / "manet-ferplus.safetensors"


def test_the_authors_logits_are_reproduced(shared_file):
    listed = shared_file("facts/manet_state_dict.txt").read_text().splitlines()
    golden = np.load(shared_file("facts/manet_golden.npz"))
    network = MaNet().eval()
    own = golden_state()
    assert [f"{name} {tuple(value.shape)}" for name, value in own.items()] == listed
    network.load_state_dict(own)
    wave = 0.5 + 0.5 * np.sin(0.013 * np.arange(2 * 3 * 224 * 224))
    faces = torch.tensor(wave.reshape(2, 3, 224, 224), dtype=torch.float32)
    with torch.inference_mode():
        local, scales = network.logits(faces)
        probabilities = network(faces)
    assert np.abs(local.numpy() - golden["logits_local"]).max() < 1e-4
    assert np.abs(scales.numpy() - golden["logits_global"]).max() < 1e-4
    fused = torch.softmax(0.6 * local + 0.4 * scales, 1)
    assert torch.allclose(probabilities, fused, atol=1e-6)


def test_the_channel_gate_is_the_shared_mlp_of_both_poolings():
    torch.manual_seed(0)
    gate = ChannelGate(32).eval()
    x = torch.randn(2, 32, 5, 7)
    logits = gate.mlp(x.mean((2, 3))) + gate.mlp(x.amax((2, 3)))
    assert torch.allclose(gate(x), x * torch.sigmoid(logits)[..., None, None], atol=1e-6)


def test_cbam_gates_channels_first_then_positions():
    torch.manual_seed(0)
    cbam = Cbam(32).eval()
    x = torch.randn(2, 32, 6, 6)
    channelled = cbam.ChannelGate(x)
    summary = torch.stack((channelled.amax(1), channelled.mean(1)), 1)
    expected = channelled * torch.sigmoid(cbam.SpatialGate.spatial(summary))
    assert torch.allclose(cbam(x), expected, atol=1e-6)


@pytest.mark.parametrize("width, classes, side", [(0.25, 7, 32), (0.5, 8, 96), (1.0, 2, 64)])
def test_width_classes_and_side_are_free(width, classes, side):
    network = MaNet(classes, width).eval()
    rebuilt = manet(network.state_dict())
    assert (rebuilt.classes, rebuilt.variant) == (classes, f"w{round(100 * width)}")
    rebuilt.load_state_dict(network.state_dict())
    answer = rebuilt.eval()(torch.rand(2, 3, side, side))
    assert answer.shape == (2, classes) and torch.allclose(answer.sum(1), torch.ones(2), atol=1e-5)


def test_quadrants_are_those_of_the_feature_map():
    """Each quadrant's weights see their own quarter only, in the authors' order."""
    torch.manual_seed(0)
    network = MaNet(width=0.25).eval()
    features = torch.rand(1, 32, 4, 4)
    before = network.local_features(features)
    for k, (rows, columns) in enumerate(
        [(slice(0, 2), slice(0, 2)), (slice(0, 2), slice(2, 4)), (slice(2, 4), slice(0, 2)),
         (slice(2, 4), slice(2, 4))], 1
    ):
        changed = features.clone()
        changed[..., rows, columns] += 1
        with torch.inference_mode():
            part = network.get_submodule(f"layer3_1_p{k}")(changed[..., rows, columns])
            own = network.get_submodule(f"layer4_1_p{k}")(part).mean((2, 3))
            old = network.get_submodule(f"layer4_1_p{k}")(
                network.get_submodule(f"layer3_1_p{k}")(features[..., rows, columns])).mean((2, 3))
            after = network.local_features(changed)
        assert torch.allclose(after - before, (own - old) / 4, atol=1e-5)


def test_the_bundled_weights_fit_and_have_their_metadata():
    state = load_file(WEIGHTS)
    network = manet(state)
    assert (network.classes, network.variant) == (8, "w50")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(12.66e6, rel=1e-3)
