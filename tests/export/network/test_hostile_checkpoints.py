"""Checkpoints made to run code, to write, to take memory or time: refused in one line."""

import os
import pickle
import resource
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from io import BytesIO

import pytest
import torch
from safetensors.torch import save_file

from feredge.export.fer_export import main
from feredge.export.models.manet import MaNet
from feredge.export.models.registry import network_named
from feredge.export.network.build import build_module
from feredge.export.network.checkpoint import Checkpoint, load_checkpoint
from feredge.runtime.errors import CheckpointError

MOST_SECONDS, MOST_GROWTH_KB = 10, 2_000_000


def refusal(path):
    """Return the one line that refuses a file, within the limits of time and memory."""
    start_s, memory_kb = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert time.perf_counter() - start_s < MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kb < MOST_GROWTH_KB
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    return str(caught.value)


def archive(pickled, **records):
    """Return an archive as `torch.save` writes it, around any pickle."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        writer.writestr("archive/data.pkl", pickled)
        for name, content in records.items():
            writer.writestr(f"archive/data/{name.lstrip('_')}", content)
    return file.getvalue()


@pytest.mark.parametrize("name", ["assert-persid", "bytearray8", "memo-index", "storage-numel-lie",
                                  "tamper-code", "tar-fifo", "tar-no-tensors", "tuple-hash"])
def test_shared_hostile_files_are_refused(name, shared_file):
    refusal(shared_file(f"cases/hostile/checkpoints/{name}.pth"))


@pytest.mark.parametrize("name, said", [
    ("03-damaged-checkpoint-traceback/assertion.pth", "damaged or no checkpoint"),
    ("03-damaged-checkpoint-traceback/memory.pth", "damaged or no checkpoint"),
    ("28-lfs-pointer/pointer.onnx", "a Git LFS pointer, not the file itself: run git lfs pull"),
])
def test_shared_damaged_and_foreign_files_are_named(name, said, shared_file):
    assert said in refusal(shared_file(f"cases/{name}"))


def doubled_tuples(opcode, levels=60):
    """Return steps that leave `levels` nested tuples, each with the one before it twice."""
    steps = b")q\x00" + b"".join(b"h" + bytes([k]) + opcode + b"q" + bytes([k + 1])
                                 for k in range(levels))
    return steps + b"h" + bytes([levels])


PICKLES = {
    "tuple as a key": b"\x80\x02}" + doubled_tuples(b"\x86") + b"Ns.",
    "tuple in a set": b"\x80\x04\x8f(" + doubled_tuples(b"\x86") + b"\x90.",
    "memo index": b"\x80\x02}r\x00\x00\x00\x7f.",
    "bytearray size": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
    "bytes size": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc.",
    "deep marks": b"\x80\x02" + b"(" * 1_500 + b".",
    "deep lists": b"\x80\x02]" + b"]" * 300_000 + b"a" * 300_000 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 600_000 + b".",
    "many steps": b"\x80\x02]" + b"N0" * 600_000 + b".",
    "large integer": b"\x80\x02\x8b" + struct.pack("<i", 1 << 20) + b"\x7f" * (1 << 20) + b".",
    "long number as text": b"L" + b"9" * 1_000_000 + b"L\n.",
    "integers that collide": b"\x80\x02}(" + b"".join(
        b"\x8a\x0f" + (k * (2**61 - 1)).to_bytes(15, "little") + b"N" for k in range(1, 150_000)
    ) + b"u.",
    "a list in many dicts": b"\x80\x02](" + b"N" * 300_000 + b"eq\x00" + (
        b"ccollections\nOrderedDict\nh\x00\x85R0" * 20_000) + b"N.",
    "a call of text": b"\x80\x02X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00" + (
        b"ctorch\nSize\nh\x00\x85R" * 1_000) + b".",
    "extension": b"\x80\x02\x82\x01.",
    "persistent text": b"Pabc\n.",
    "no value": b"\x80\x02.",
    "code of a function": b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
                          b"N}X\x08\x00\x00\x00__code__ctorch._utils\n_rebuild_parameter\ns\x86bs.",
    "a dict that holds itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "many names for one dict": b"\x80\x02}q\x01(" + b"".join(
        b"\x8a\x03" + k.to_bytes(3, "little") + b"N" for k in range(100_000)) + b"u0}(" + b"".join(
        b"\x8a\x03" + k.to_bytes(3, "little") + b"h\x01" for k in range(100_000)) + b"u.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_exhausts_time_or_memory_is_refused(name, tmp_path):
    (tmp_path / "a.pth").write_bytes(archive(PICKLES[name]))
    refusal(tmp_path / "a.pth")
    (tmp_path / "legacy.pth").write_bytes(PICKLES[name])
    refusal(tmp_path / "legacy.pth")


def saved(tensor):
    file = BytesIO()
    torch.save({"w": tensor}, file)
    return file.getvalue()


def altered_pickle(tensor, before, after):
    """Return a saved tensor's archive with other numbers in its pickle."""
    with zipfile.ZipFile(BytesIO(saved(tensor))) as reader:
        pickled = reader.read("archive/data.pkl")
        assert before in pickled
        return archive(pickled.replace(before, after), _0=reader.read("archive/data/0"))


@pytest.mark.parametrize("before, after", [
    (b"K\x03K\x05\x86", b"K\x03J\xff\xff\xff\x7f\x86"),
    (b"K\x03K\x05\x86", b"K\x03J\xff\xff\xff\xff\x86"),
    (b"K\x05K\x01\x86", b"K\x05K\x09\x86"), (b"K\x05K\x01\x86", b"K\x05\x85"),
    (b"QK\x00", b"QK\x09"), (b"K\x0f", b"J\x00\x00\x00\x7f"),
], ids=["many columns", "negative columns", "long strides", "one stride", "offset", "storage size"])
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(before, after, tmp_path):
    (tmp_path / "a.pth").write_bytes(altered_pickle(torch.ones(3, 5), before, after))
    refusal(tmp_path / "a.pth")
    (tmp_path / "whole.pth").write_bytes(altered_pickle(torch.ones(3, 5), b"K\x0f", b"K\x0f"))
    assert load_checkpoint(tmp_path / "whole.pth").state["w"].shape == (3, 5)


def test_one_number_for_a_large_tensor_is_refused(tmp_path):
    torch.save({"w": torch.ones(1).expand(10_000_000, 1000)}, tmp_path / "a.pth")
    assert "does not fit its storage of 4 bytes" in refusal(tmp_path / "a.pth")


def test_a_compressed_or_altered_archive_is_refused(tmp_path):
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("archive/data.pkl", b"\x80\x02}." + bytes(100_000_000))
    (tmp_path / "bomb.pth").write_bytes(file.getvalue())
    assert "is compressed" in refusal(tmp_path / "bomb.pth")
    content = bytearray(saved(torch.ones(1000)))
    content[content.index(b"\x00\x00\x80\x3f" * 10)] ^= 1
    (tmp_path / "altered.pth").write_bytes(content)
    assert "archive/data/0 is altered" in refusal(tmp_path / "altered.pth")


def test_torchscript_is_refused_before_anything_of_it_runs(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    (tmp_path / "scripted_module.py").write_text(f'''
from typing import Tuple
import torch
class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2))
        self.training = False
    @torch.jit.export
    def __getstate__(self) -> Tuple[int, bool]:
        return (1, self.training)
    @torch.jit.export
    def __setstate__(self, s: Tuple[int, bool]) -> None:
        self.training = s[1]
        self.w = torch.from_file({str(precious)!r}, True, 5, dtype=torch.uint8).fill_(88).float()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x
torch.jit.script(Module()).save("evil.pt")
''')
    subprocess.run([sys.executable, "scripted_module.py"], cwd=tmp_path, check=True)
    assert "it is a TorchScript archive" in refusal(tmp_path / "evil.pt")
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
def test_a_tar_archive_is_refused_and_changes_no_file(kind, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o600)
    member = tarfile.TarInfo("storages")
    member.type, member.linkname, member.mode = kind, str(outside), 0o777
    with tarfile.open(tmp_path / "old.tar", "w") as writer:
        writer.addfile(member)
    before = outside.stat()
    assert "it is a tar archive" in refusal(tmp_path / "old.tar")
    assert outside.stat() == before


@pytest.mark.parametrize("content, said", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "Git LFS pointer"),
    (b"<!DOCTYPE html><html>", "a web page"), (b"\n<html>", "a web page"),
    (b"\x1f\x8b\x08abc", "a compressed file"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY\x01", "a numpy array"), (b"ptrt\x00\x00", "a TensorRT plan"),
    (pickle.dumps({"w": [1.0]}), "a pickle that torch.save did not write"),
    (b"", "damaged"), (b"\x80", "damaged"), (b"PK\x03\x04", "damaged"),
    (b"\x00\x00\x00\x00\x01\x00\x00\x00{", "its header has 4,294,967,296 bytes"),
])
def test_a_file_of_another_kind_is_named(content, said, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    assert said in refusal(tmp_path / "a.pth")


def test_an_onnx_file_is_named(tmp_path):
    import onnx

    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph, producer_name="pytorch"), tmp_path / "a.onnx")
    assert "probably an ONNX file" in refusal(tmp_path / "a.onnx")


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        assert "no regular file" in refusal(path)
    with (tmp_path / "sparse.pth").open("wb") as file:
        file.truncate(100 << 30)
    assert "107.4 GB" in refusal(tmp_path / "sparse.pth")
    assert "cannot be read" in refusal("nul\0character")


def test_sizes_that_a_checkpoint_states_take_no_memory(tmp_path):
    state = dict(MaNet(7, 0.0625).state_dict())
    state["conv1.weight"] = torch.zeros(10_000_000, 0)
    with pytest.raises(CheckpointError, match="of another shape"):
        build_module(network_named("manet"), Checkpoint(state, ""), 7, 32)
    head = {"trunk.0.0.weight": torch.zeros(32, 3, 7, 7),
            "fused_head.weight": torch.zeros(0, 10**12)}
    with pytest.raises(CheckpointError, match="missing"):
        build_module(network_named("dsan-resnet18"), Checkpoint(head, ""), 7, 32)


@pytest.mark.parametrize("side", ["9" * 5000, "1e3", "-32", "90000", "\n"])
def test_a_side_in_the_metadata_that_is_none_is_refused(side, tmp_path, capfd):
    save_file(MaNet(7, 0.0625).state_dict(), tmp_path / "a.safetensors", {"side": side})
    assert main(["--model", "manet", "--checkpoint", str(tmp_path / "a.safetensors"),
                 "--output", str(tmp_path / "out")]) == 2
    error = capfd.readouterr().err
    assert "side" in error and error.count("\n") == 1


def test_weights_that_are_not_finite_are_refused(tmp_path, capfd):
    state = MaNet(7, 0.0625).state_dict()
    state["fc_1.bias"][0] = torch.nan
    save_file(state, tmp_path / "a.safetensors")
    assert main(["--model", "manet", "--checkpoint", str(tmp_path / "a.safetensors"),
                 "--side", "32", "--output", str(tmp_path / "out")]) == 2
    assert "returns numbers from nan" in capfd.readouterr().err


def test_the_backbone_of_another_file_is_read_by_the_same_rules(tmp_path, capfd):
    (tmp_path / "a.pth").write_bytes(archive(PICKLES["tuple as a key"]))
    assert main(["--model", "manet", "--backbone-from", str(tmp_path / "a.pth"),
                 "--output", str(tmp_path / "out")]) == 2
    assert "holds no state dict" in capfd.readouterr().err


# A tuple of itself, 60 times over: its text would have 2**60 parts.
ENDLESS_TEXT = b")" + b"2\x86" * 60


@pytest.mark.parametrize("pickled", [
    b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + ENDLESS_TEXT
    + b"X\x03\x00\x00\x00cpuK\x01tQ.",
    b"\x80\x04X\x01\x00\x00\x00m" + ENDLESS_TEXT + b"\x93.",
], ids=["storage-key", "global-name"])
def test_a_value_whose_text_is_endless_is_never_put_into_words(pickled, tmp_path):
    (tmp_path / "endless.pth").write_bytes(archive(pickled))
    refusal(tmp_path / "endless.pth")


def test_a_legacy_version_whose_text_is_endless_is_refused(tmp_path):
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    (tmp_path / "endless.pth").write_bytes(magic + b"\x80\x02" + ENDLESS_TEXT + b"."
                                           + pickle.dumps({"little_endian": True}, 2))
    assert "its format is tuple" in refusal(tmp_path / "endless.pth")


def test_metadata_that_is_null_is_no_metadata(tmp_path):
    header = b'{"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert load_checkpoint(tmp_path / "a.safetensors").metadata == {}


def test_sizes_beyond_any_memory_are_refused_before_memory_is_taken():
    state = {"trunk.0.0.weight": torch.empty((64_000_000, 0, 3, 3))}
    network = network_named("dsan")
    with pytest.raises(CheckpointError):
        build_module(network, Checkpoint(state, "0" * 64), 7, 224)
