"""Checkpoints of every kind, and pickles that try to run something."""

import os
import pickle
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from feredge.export.models.manet import MaNet
from feredge.export.network.checkpoint import load_checkpoint
from feredge.export.network.loading import load_into
from feredge.runtime.errors import CheckpointError


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return MaNet(classes=7, width=0.25)


@pytest.fixture
def recorder(monkeypatch):
    """An instance of the class that the authors' script saves, in `__main__` here as there."""
    meter = type("RecorderMeter", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "RecorderMeter", meter, raising=False)
    recorder = meter()
    recorder.epoch_losses = torch.zeros(3, 2).numpy()
    return recorder


def same(state, network):
    own = network.state_dict()
    return list(state) == list(own) and all(torch.equal(state[name], own[name]) for name in own)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_the_authors_file_is_read_without_its_classes(tmp_path, network, recorder, new_format):
    path = tmp_path / "manet.pth.tar"
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    document = {
        "epoch": 12, "best_acc": torch.tensor(88.4), "recorder": recorder,
        "optimizer": optimizer.state_dict(),
        "state_dict": OrderedDict((f"module.{k}", v) for k, v in network.state_dict().items()),
    }
    torch.save(document, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    checkpoint = load_checkpoint(path)
    assert same(checkpoint.state, network) and not checkpoint.metadata
    load_into(MaNet(classes=7, width=0.25), checkpoint.state)


def test_a_plain_state_dict_and_safetensors_are_read(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "a.pth")
    save_file(network.state_dict(), tmp_path / "a.safetensors", {"labels": "a,b"})
    plain, safe = load_checkpoint(tmp_path / "a.pth"), load_checkpoint(tmp_path / "a.safetensors")
    assert same(plain.state, network) and plain.sha256 != safe.sha256
    assert set(safe.state) == set(plain.state) and safe.metadata == {"labels": "a,b"}


def test_parameters_and_shared_storage_are_read(tmp_path):
    weight = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    torch.save({"state_dict": {"a": weight, "b": weight.detach()[1:], "c": weight.detach().T}},
               tmp_path / "a.pth")
    state = load_checkpoint(tmp_path / "a.pth").state
    assert torch.equal(state["a"], weight) and torch.equal(state["b"], weight[1:])
    assert torch.equal(state["c"], weight.T)


class Planted:
    """Asks the unpickler to call something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_nothing_that_a_pickle_asks_for_is_run(tmp_path, network, new_format):
    sign = tmp_path / "was_here"
    planted = [
        Planted(os.system, f"touch {sign}"),
        Planted(exec, f"open({str(sign)!r}, 'w')"),
        Planted(eval, f"open({str(sign)!r}, 'w')"),
        Planted(open, str(sign), "w"),
        Planted(torch.save, [1], str(sign)),
    ]
    document = {"state_dict": network.state_dict(), "planted": planted}
    path = tmp_path / "planted.pth"
    torch.save(document, path, _use_new_zipfile_serialization=new_format)
    assert same(load_checkpoint(path).state, network)
    assert not sign.exists()
    torch.load(path, weights_only=False)  # what an ordinary reader does
    assert sign.exists(), "the test must be able to fail"


def test_a_pickle_without_torch_around_it_runs_nothing_either(tmp_path):
    sign = tmp_path / "was_here"
    path = tmp_path / "bare.pth"
    path.write_bytes(pickle.dumps(Planted(os.system, f"touch {sign}")))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not sign.exists()


def test_damaged_files_are_refused_with_one_line(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    save_file(network.state_dict(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.pth").read_bytes()
    safe = (tmp_path / "whole.safetensors").read_bytes()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    cases = {
        "cut.pth": whole[: len(whole) // 2], "cut.safetensors": safe[: len(safe) // 2],
        "empty.pth": b"", "text.pth": b"hello world, this is no checkpoint",
        "zip.pth": (tmp_path / "other.zip").read_bytes(), "safe.pth": safe[:9],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged or no checkpoint") as caught:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value), name
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "missing.pth")


def test_a_file_without_a_state_dict_is_refused_with_the_keys_that_it_holds(tmp_path):
    documents = {"a": {"epoch": 3}, "b": [1, 2], "c": {}, "d": {"epoch": 3, "a\n": 1}}
    for name, document in documents.items():
        torch.save(document, tmp_path / name)
        with pytest.raises(CheckpointError, match="holds no state dict") as caught:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert "the keys found are epoch, a\\n" in str(caught.value)


def test_keys_that_do_not_fit_are_named(network):
    state = dict(network.state_dict())
    for k in range(5):
        state[f"extra.{k}"] = torch.zeros(1)
    for name in ("conv1.weight", "bn1.bias"):
        del state[name]
    state["fc_1.weight"] = torch.zeros(12666, 128)
    with pytest.raises(CheckpointError) as caught:
        load_into(network, state)
    message = str(caught.value)
    assert "2 missing: bn1.bias, conv1.weight" in message
    assert "5 unexpected: extra.0, extra.1, extra.2, ..." in message
    assert "fc_1.weight is (12666, 128), expected (7, 128)" in message
    assert "692 tensors" in message and "\n" not in message
