"""Find the state dict in what a checkpoint holds, and turn its records into tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feredge.export.network.archives import BYTES_PER_ELEMENT, Document, safe_name
from feredge.export.network.pickle_values import PickleError, StandIn, TensorRecord

STATE_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module",
              "weights", "params")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")  # DataParallel's, Lightning's
COMPILED = "_orig_mod."  # torch.compile's, wherever a part was compiled
COUNTERS = ("total_ops", "total_params")  # which a profiler adds to every module
MOST_SEARCHED, MOST_MODULE_ENTRIES, MOST_NAME_LENGTH = 500, 100_000, 1_000
DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}
OWN_TENSORS = ("_parameters", "_buffers")
Found = Mapping[Any, Any]


def find_state(value: Any, seen: set[int] | None = None) -> Found | None:
    """Return the tensors by name that a document holds; None if there are none.

    The usual keys are searched first, then any key that alone holds tensors. A pickled module
    gives its parameters and buffers; its class is not needed. `seen` holds the ids of what was
    searched, so that no part is searched twice.
    """
    seen = set() if seen is None else seen
    if id(value) in seen or len(seen) > MOST_SEARCHED:
        return None
    seen.add(id(value))
    if isinstance(value, StandIn):
        value = module_state(value)
    if not isinstance(value, dict) or not value:
        return None
    if all(isinstance(entry, TensorRecord) for entry in value.values()):
        return value
    for key in STATE_KEYS:
        if (found := find_state(value.get(key), seen)) is not None:
            return found
    others = [found for entry in value.values() if isinstance(entry, dict | StandIn)
              and (found := find_state(entry, seen)) is not None]
    return others[0] if len(others) == 1 else None


def module_state(module: StandIn) -> dict[str, Any]:
    """Return the parameters and buffers of a pickled module by their dotted names.

    Raises:
        PickleError: it has more modules than any network, or contains itself.
    """
    state: dict[str, Any] = {}
    waiting, visited = [("", module)], 0
    while waiting:
        prefix, current = waiting.pop()
        children = entries(current, "_modules")
        visited += 1 + sum(len(entries(current, kind)) for kind in OWN_TENSORS) + len(children)
        if visited > MOST_MODULE_ENTRIES or len(prefix) > MOST_NAME_LENGTH:
            raise PickleError("it is a module larger or deeper than any network, or a damaged one")
        state.update((prefix + name, tensor) for name, tensor in own_tensors(current))
        waiting += [(f"{prefix}{name}.", child) for name, child in reversed(children)
                    if isinstance(child, StandIn)]
    return state


def own_tensors(module: StandIn) -> Iterator[tuple[str, Any]]:
    """Yield the parameters and persistent buffers of one module, without its children's."""
    passing = module.attributes.get("_non_persistent_buffers_set")
    hidden = passing if isinstance(passing, set) else set()
    for kind in OWN_TENSORS:
        for name, tensor in entries(module, kind):
            if tensor is not None and name not in hidden:
                yield name, tensor


def entries(module: StandIn, attribute: str) -> list[tuple[str, Any]]:
    """Return the named entries of a module's dict; none where it is something else."""
    found = module.attributes.get(attribute)
    return [(str(name), value) for name, value in found.items()] if isinstance(found, dict) else []


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Map the names of a state dict to those of the network: without counters and prefixes."""
    plain = {name: name.replace(COMPILED, "") for name in names
             if name.rsplit(".", 1)[-1] not in COUNTERS}
    while plain and (prefix := common_prefix(plain.values())):
        plain = {name: short.removeprefix(prefix) for name, short in plain.items()}
    return plain


def common_prefix(names: Iterable[str]) -> str:
    """Return the wrapper's prefix that all names have; empty if there is none."""
    kept = list(names)
    return next((prefix for prefix in PREFIXES
                 if all(name.startswith(prefix) and name != prefix for name in kept)), "")


def tensors_of(records: Found, document: Document) -> dict[str, Tensor]:
    """Read the tensors of a state dict; those that share a storage still do.

    Raises:
        PickleError: a tensor reaches beyond its storage, or that beyond the file.
    """
    storages: dict[str, Tensor] = {}
    named = {str(name): record for name, record in records.items()}
    if any(len(name) > MOST_NAME_LENGTH for name in named):
        raise PickleError(f"a name of it has more than {MOST_NAME_LENGTH} characters")
    return {plain: tensor_from_record(named[name], document, storages)
            for name, plain in plain_names(named).items()}


def tensor_from_record(
    record: TensorRecord, document: Document, storages: dict[str, Tensor]
) -> Tensor:
    """Read one tensor; `storages` keeps the storages that were read, by key, as bytes."""
    storage = record.storage
    dtype = dtype_of(record)
    if storage.key not in storages:
        raw = np.frombuffer(document.storage_bytes(storage), np.uint8).copy()
        storages[storage.key] = torch.from_numpy(raw)
    values = storages[storage.key]
    available = check_extent(record, values.numel(), dtype.itemsize)
    return values[: available * dtype.itemsize].view(dtype).as_strided(
        record.shape, record.stride, storage.offset + record.offset)


def dtype_of(record: TensorRecord) -> torch.dtype:
    """Return a tensor's dtype: its own where its storage is untyped, else its storage's.

    Raises:
        PickleError: there is no such dtype.
    """
    if record.dtype is None:
        return DTYPES[record.storage.kind]
    found = getattr(torch, record.dtype.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise PickleError(f"a tensor of it has the unknown type {safe_name(record.dtype)}")
    return found


def check_extent(record: TensorRecord, storage_bytes: int, itemsize: int) -> int:
    """Return how many elements a tensor's storage has.

    Raises:
        PickleError: the tensor has more, or reaches beyond it.
    """
    storage, available = record.storage, storage_bytes // itemsize
    count = prod(record.shape)
    steps = sum((size - 1) * step for size, step in zip(record.shape, record.stride))
    end = storage.offset + record.offset + (steps + 1 if count else 0)
    declared = storage.count * BYTES_PER_ELEMENT[storage.kind]
    fits = len(record.shape) == len(record.stride) and max(end, count) <= available
    if not fits or storage.offset * itemsize + declared > storage_bytes:
        raise PickleError(f"a tensor of shape {safe_name(str(record.shape))} does not fit its "
                          f"storage of {storage_bytes:,} bytes")
    return available


def describe_content(value: Any, most: int = 8) -> str:
    """Return what a document without a state dict holds, for the message that refuses it."""
    if isinstance(value, StandIn):
        return f"it holds an object of the class {safe_name(value.name)}"
    if not isinstance(value, dict):
        return f"it holds {type(value).__name__}"
    if not value:
        return "it holds an empty dict"
    keys = [safe_name(str(key)) for key in list(value)[:most]]
    return f"the keys found are {', '.join(keys)}{', ...' if len(value) > most else ''}"
