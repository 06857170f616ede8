"""Checkpoints of old torch versions, wrappers and profilers, and whole modules."""

import io
import pickle
import struct
from collections import OrderedDict

import pytest
import torch

from feredge.export.models.manet import MaNet
from feredge.export.network.checkpoint import load_checkpoint
from feredge.export.network.loading import load_into
from feredge.runtime.errors import CheckpointError


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return MaNet(classes=7, width=0.0625).eval()


def prefixed(state, prefix):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def without_counters(state):
    """As torch before 0.4.1 saved it."""
    return OrderedDict((name, tensor) for name, tensor in state.items()
                       if not name.endswith("num_batches_tracked"))


def with_profiler_counters(state):
    """As thop leaves it: two counters a module, and two of the network's own."""
    modules = {name.rpartition(".")[0] for name in state}
    return state | {f"{module}.{kind}".lstrip("."): torch.zeros(1, dtype=torch.float64)
                    for module in (*modules, "") for kind in ("total_ops", "total_params")}


FORMS = {
    "before 0.4.1": without_counters,
    "profiled": lambda state: {"state_dict": with_profiler_counters(dict(state))},
    "profiled in parallel": lambda state: prefixed(with_profiler_counters(dict(state)), "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "parallel twice": lambda state: {"state_dict": prefixed(state, "module.module.")},
    "compiled in parallel": lambda state: {"model": prefixed(state, "_orig_mod.module.")},
    "Lightning": lambda state: {"state_dict": prefixed(state, "model."), "hparams": {}},
    "net": lambda state: {"net": state, "acc": 80.0, "epoch": 3},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": torch.tensor(0.3)},
    "another key": lambda state: {"fer_weights": state, "epoch": 3},
    "half": lambda state: {name: t.half() if t.is_floating_point() else t
                           for name, t in state.items()},
    "bfloat16": lambda state: {name: t.bfloat16() if t.is_floating_point() else t
                               for name, t in state.items()},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("form", FORMS)
def test_a_state_dict_of_any_form_fits_its_network(form, legacy, network, tmp_path):
    saved = FORMS[form](network.state_dict())
    torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    own = MaNet(7, 0.0625)
    load_into(own, load_checkpoint(tmp_path / "a.pth").state)
    for name, tensor in network.state_dict().items():
        if "num_batches" not in name:
            cast = {"half": torch.float16, "bfloat16": torch.bfloat16}.get(form, torch.float32)
            assert torch.equal(own.state_dict()[name], tensor.to(cast).float()), name


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_the_tensors_of_a_whole_module_are_read_and_its_class_is_not_needed(
    network, legacy, tmp_path, monkeypatch
):
    path = tmp_path / "whole.pth"
    torch.save({"epoch": 1, "model": torch.nn.DataParallel(network)}, path,
               _use_new_zipfile_serialization=not legacy)
    monkeypatch.delattr("feredge.export.models.manet.MaNet")
    state = load_checkpoint(path).state
    assert list(state) == list(network.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_buffers_that_a_module_does_not_save_are_passed_over(tmp_path):
    module = torch.nn.Linear(2, 2)
    module.register_buffer("scratch", torch.zeros(3), persistent=False)
    torch.save(module, tmp_path / "whole.pth")
    assert list(load_checkpoint(tmp_path / "whole.pth").state) == ["weight", "bias"]


def test_a_module_that_contains_itself_is_refused(tmp_path):
    module = torch.nn.Linear(2, 2)
    module._modules["again"] = module
    torch.save(module, tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match="deeper than any network"):
        load_checkpoint(tmp_path / "whole.pth")


def save_as_torch_0_3(document, path):
    """Write what torch up to 0.3 wrote: `_rebuild_tensor`, storages of a GPU, no counters."""
    storages = {}

    class Pickler(pickle._Pickler):  # Python's own, which has a hook for persistent objects
        def persistent_id(self, value):
            if not isinstance(value, torch.storage.TypedStorage):
                return None
            key = str(value.data_ptr())
            storages[key] = value
            return "storage", torch.cuda.FloatStorage, key, "cuda:0", len(value), None

        def save(self, value, save_persistent_id=True):
            if isinstance(value, torch.Tensor):
                arguments = (value._typed_storage(), value.storage_offset(), tuple(value.size()),
                             value.stride())
                self.save_reduce(torch._utils._rebuild_tensor, arguments, obj=value)
            else:
                super().save(value, save_persistent_id)

    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001,
                      {"protocol_version": 1001, "little_endian": True,
                       "type_sizes": {"short": 2, "int": 4, "long": 4}}):
            pickle.dump(value, file, protocol=2)
        Pickler(file, protocol=2).dump(document)
        pickle.dump(sorted(storages), file, protocol=2)
        for key in sorted(storages):
            numbers = torch.tensor([], dtype=torch.float32).set_(storages[key]._untyped_storage)
            file.write(struct.pack("<q", len(numbers)) + numbers.numpy().tobytes())


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_a_file_of_torch_0_3_is_read(network, tmp_path):
    saved = prefixed(without_counters(network.state_dict()), "module.")
    save_as_torch_0_3({"epoch": 3, "state_dict": saved}, tmp_path / "a.pth.tar")
    own = MaNet(7, 0.0625)
    load_into(own, load_checkpoint(tmp_path / "a.pth.tar").state)
    assert torch.equal(own.fc_1.weight, network.fc_1.weight)


def test_strings_of_python_2_are_read(network, tmp_path):
    file = io.BytesIO()
    document = {"state_dict": network.state_dict(), "best_prec1": "PY2BYTES"}
    torch.save(document, file, _use_new_zipfile_serialization=False)
    mark = b"X\x08\x00\x00\x00PY2BYTES"
    assert file.getvalue().count(mark) == 1
    content = file.getvalue().replace(mark, b"U\x08\x9a\x99\x99\x99\x99\x19V@")
    (tmp_path / "py2.pth").write_bytes(content)
    assert list(load_checkpoint(tmp_path / "py2.pth").state) == list(network.state_dict())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickle_is_read(network, protocol, tmp_path):
    torch.save(network.state_dict(), tmp_path / "a.pth", pickle_protocol=protocol)
    assert list(load_checkpoint(tmp_path / "a.pth").state) == list(network.state_dict())


def test_a_network_whose_own_names_have_a_prefix_gets_it_back(tmp_path):
    own = torch.nn.ModuleDict({"model": torch.nn.Linear(2, 3)})
    torch.save(own.state_dict(), tmp_path / "a.pth")
    other = torch.nn.ModuleDict({"model": torch.nn.Linear(2, 3)})
    load_into(other, load_checkpoint(tmp_path / "a.pth").state)
    assert torch.equal(other["model"].weight, own["model"].weight)


def test_a_subclass_of_tensor_and_a_dtype_without_a_storage_of_its_own_are_read(tmp_path):
    class Mine(torch.Tensor):
        pass

    globals()["Mine"] = Mine
    Mine.__qualname__ = "Mine"
    torch.save({"a": torch.ones(2, 3).as_subclass(Mine), "b": torch.ones(4, dtype=torch.uint16)},
               tmp_path / "a.pth")
    state = load_checkpoint(tmp_path / "a.pth").state
    assert torch.equal(state["a"], torch.ones(2, 3)) and state["b"].dtype == torch.uint16


def test_integers_in_place_of_weights_are_named():
    own = torch.nn.Linear(2, 2)
    state = own.state_dict() | {"weight": torch.ones(2, 2, dtype=torch.int8)}
    with pytest.raises(CheckpointError, match=r"weight is torch.int8, expected torch.float32"):
        load_into(own, state)
