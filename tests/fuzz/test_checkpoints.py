"""Altered checkpoints and random pickles: a state dict or one line, whatever the bytes are."""

import pickletools
import zipfile
from io import BytesIO

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from feredge.export.network.checkpoint import load_checkpoint
from feredge.runtime.errors import CheckpointError

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3).half(),
         "steps": torch.tensor(7)}
limits = settings(max_examples=200, deadline=5_000)


def saved(legacy):
    file = BytesIO()
    torch.save({"state_dict": STATE, "epoch": 3, "names": ("x", b"y", 1.5, None, True)}, file,
               _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


FILES = {"zip": saved(False), "legacy": saved(True), "safetensors": save(STATE)}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "a.pth"


def read(path, content):
    """Read bytes as a checkpoint: tensors within the file's size, or one line."""
    path.write_bytes(content)
    try:
        state = load_checkpoint(path).state
    except CheckpointError as error:
        assert "\n" not in str(error) and len(str(error)) < 2_000
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
        assert all(tensor.numel() <= len(content) for tensor in state.values())


edits = st.lists(st.tuples(
    st.integers(0, 10_000), st.integers(0, 8), st.binary(max_size=9)), min_size=1, max_size=6)


@pytest.mark.parametrize("kind", FILES)
@limits
@given(edits=edits, end=st.integers(0, 20_000))
def test_an_altered_file_is_read_or_refused_in_one_line(path, kind, edits, end):
    content = bytearray(FILES[kind])
    for place, removed, added in edits:
        start = place % len(content)
        content[start : start + removed] = added
    read(path, bytes(content[:end] if end > 8 else content))


def archive(pickled):
    """Put a pickle into an archive with a valid checksum, where an altered one would stop."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        writer.writestr("archive/data.pkl", pickled)
        writer.writestr("archive/data/0", bytes(48))
    return file.getvalue()


def pickle_of_archive():
    with zipfile.ZipFile(BytesIO(FILES["zip"])) as reader:
        return reader.read("archive/data.pkl")


@limits
@given(edits=edits)
def test_an_altered_pickle_in_a_valid_archive_is_read_or_refused(path, edits):
    content = bytearray(pickle_of_archive())
    for place, removed, added in edits:
        start = place % len(content)
        content[start : start + removed] = added
    read(path, archive(bytes(content)))


def arguments(opcode):
    """Return a strategy for what may follow an opcode: something of the right form, or not."""
    if opcode.arg is None:
        return st.just(b"")
    if opcode.arg.n >= 0:
        return st.binary(min_size=opcode.arg.n, max_size=opcode.arg.n)
    lines = st.sampled_from([
        b"torch\nFloatStorage\n", b"torch._utils\n_rebuild_tensor_v2\n", b"os\nsystem\n",
        b"collections\nOrderedDict\n", b"torch\nSize\n", b"12\n", b"'a'\n", b"1.5\n",
    ])
    if opcode.arg.n == pickletools.UP_TO_NEWLINE:
        return lines
    size = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4,
            pickletools.TAKEN_FROM_ARGUMENT4U: 4, pickletools.TAKEN_FROM_ARGUMENT8U: 8}
    bytes_of_size = size[opcode.arg.n]
    return st.binary(max_size=9).map(
        lambda text: len(text).to_bytes(bytes_of_size, "little") + text)


steps = st.sampled_from(pickletools.opcodes).flatmap(
    lambda opcode: arguments(opcode).map(lambda rest: opcode.code.encode("latin-1") + rest))


@limits
@given(steps=st.lists(steps, max_size=60), legacy=st.booleans())
def test_a_pickle_of_random_opcodes_is_read_or_refused(path, steps, legacy):
    pickled = b"\x80\x02" + b"".join(steps) + b"."
    if legacy:
        header = FILES["legacy"]
        read(path, header[: header.index(b".", 40) + 1] + pickled)
    read(path, archive(pickled))
