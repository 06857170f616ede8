"""Weights of every origin: seeded, a stage before this one, another checkpoint's backbone."""

import pytest
import torch
from safetensors.torch import save_file

from feredge.export.models.dsan import BACKBONE, Dsan
from feredge.export.models.registry import network_named
from feredge.export.network.build import load_network
from feredge.export.network.loading import load_backbone
from feredge.export.options import ExportOptions
from feredge.runtime.errors import CheckpointError, ExportError


def checkpoint(path, classes=7, backbone="resnet18", seed=0, metadata=None, **changes):
    """Save a small DSAN; changes replace or, as None, remove tensors."""
    torch.manual_seed(seed)
    state = Dsan(backbone, classes, side=32, width=0.25).state_dict() | changes
    save_file({name: value for name, value in state.items() if value is not None}, path, metadata)
    return str(path)


def load(**options):
    return load_network(network_named("dsan-resnet18"), ExportOptions("dsan-resnet18", **options))


@pytest.fixture
def trained(tmp_path):
    return checkpoint(tmp_path / "trained.safetensors", metadata={"side": "32"})


def test_random_weights_are_the_same_every_time_and_leave_torchs_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (load(random_weights=True, side=32) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert first[1].sha256 == second[1].sha256 and len(first[1].sha256) == 64
    state = second[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first[0].state_dict().items())
    assert first[1].metadata["trained_on"] == "nothing: random weights of seed 0"


def test_random_weights_answer_for_the_labels_and_side_that_were_asked_for():
    module, _, labels, side = load(random_weights=True, side=32, labels=("a", "b", "c"))
    assert module(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert (labels, side) == (("a", "b", "c"), 32)


def test_a_checkpoints_heads_tell_the_side(tmp_path):
    path = checkpoint(tmp_path / "plain.safetensors")
    assert load(checkpoint=path)[3] == 32
    with pytest.raises(ExportError, match="side 64: this checkpoint's heads are made for 32 px"):
        load(checkpoint=path, side=64)


def test_a_stage_one_checkpoint_names_its_other_classes(tmp_path):
    path = checkpoint(tmp_path / "gender.safetensors", classes=2)
    with pytest.raises(CheckpointError) as caught:
        load(checkpoint=path)
    assert "2 classes, but there are 7 labels: neutral," in str(caught.value)
    assert "it may lend its backbone: pass it with --backbone-from" in str(caught.value)


def test_a_stage_one_checkpoint_of_several_tasks_names_the_heads_that_differ(tmp_path):
    other = {"heads.0.weight": torch.zeros(2, 256), "heads.0.bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"2 of another shape: heads.0.bias is \(2,\), "
                                              r"expected \(7,\), heads.0.weight is \(2, 256\)"):
        load(checkpoint=checkpoint(tmp_path / "tasks.safetensors", **other))


def test_a_stage_one_checkpoint_with_heads_of_other_names_is_told_by_its_backbone(tmp_path):
    other = {"fused_head.weight": None, "race_head.weight": torch.zeros(5, 1024)}
    with pytest.raises(CheckpointError) as caught:
        load(checkpoint=checkpoint(tmp_path / "race.safetensors", **other))
    assert "not a dsan-resnet18 checkpoint: it has no tensor 'fused_head.weight'" in str(
        caught.value)
    assert "--backbone-from" in str(caught.value)


def test_the_backbone_of_another_task_is_taken_and_nothing_else(trained, tmp_path):
    donor = checkpoint(tmp_path / "age.safetensors", classes=9, seed=1)
    plain, plain_weights, *_ = load(checkpoint=trained)
    module, weights, *_ = load(checkpoint=trained, backbone_from=donor)
    torch.manual_seed(1)
    lent = Dsan("resnet18", 9, 32, width=0.25).state_dict()
    own = plain.state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(value, (lent if name.startswith("trunk.") else own)[name]), name
    assert weights.sha256 != plain_weights.sha256, "ranges of the plain one must not fit"


@pytest.mark.parametrize("changes, said", [
    ({"backbone": "vgg16"}, "the checkpoint's backbone does not fit the network's, 120 tensors "
                            "called trunk.*: "),
    ({"trunk.0.1.bias": None}, "1 missing: trunk.0.1.bias"),
    ({"trunk.0.1.bias": torch.zeros(3)}, r"trunk.0.1.bias is (3,), expected (16,)"),
], ids=["other", "missing", "shape"])
def test_a_backbone_that_does_not_fit_is_named(trained, tmp_path, changes, said):
    donor = checkpoint(tmp_path / "donor.safetensors", **changes)
    with pytest.raises(CheckpointError) as caught:
        load(checkpoint=trained, backbone_from=donor)
    assert said in str(caught.value)


def test_a_network_without_a_named_backbone_takes_none():
    with pytest.raises(CheckpointError, match="names no backbone"):
        load_backbone(torch.nn.Linear(1, 1), {}, ())


def test_a_backbone_is_loaded_for_the_second_stage_of_training(tmp_path):
    first = Dsan("resnet18", classes=2, side=32, width=0.25)
    second = Dsan("resnet18", classes=7, side=32, width=0.25)
    load_backbone(second, first.state_dict(), BACKBONE)
    assert torch.equal(second.trunk[0][0].weight, first.trunk[0][0].weight)


def test_an_empty_checkpoint_is_not_random_weights(tmp_path):
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load(checkpoint=str(tmp_path / "empty.safetensors"))
