"""What a pickle of a checkpoint may hold: containers, tensor records, and inert stand-ins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KEY_LIMIT = 1 << 60  # larger integers can be made to collide in a dict
MOST_DIMENSIONS = 64
MAPPINGS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict",
            "__builtin__.dict")
SETS = ("builtins.set", "__builtin__.set", "builtins.frozenset", "__builtin__.frozenset")
LISTS = ("torch.Size", "builtins.list", "__builtin__.list", "builtins.tuple", "__builtin__.tuple")


class PickleError(ValueError):
    """A pickle that is damaged, too large, or not one of a checkpoint."""


@dataclass(frozen=True, eq=False)
class Global:
    """A class or function of the pickle, by name."""

    name: str


@dataclass(eq=False)
class StandIn:
    """An object whose class is not built: its class name and its attributes."""

    name: str
    attributes: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Storage:
    """A block of numbers of the file: its key, its type as `FloatStorage`, its element count."""

    key: str
    kind: str
    count: int
    offset: int = 0


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """A tensor as the pickle describes it; `offset` and `stride` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str | None = None


def call_result(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return what a call would build, of the few callees that make tensors and containers."""
    items = arguments[0] if arguments and isinstance(arguments[0], list | tuple | set) else ()
    if name in MAPPINGS:
        return pairs(items)
    if name in SETS:
        return {item for item in items if is_key(item)}
    if name in LISTS:
        return tuple(items)
    return tensor_result(name, arguments)


def is_key(value: Any) -> bool:
    """Whether hashing and comparing a value takes constant time."""
    return value is None or isinstance(value, str | bytes) or (
        isinstance(value, int) and abs(value) < KEY_LIMIT)


def mapping(keys: list[Any], values: list[Any]) -> dict[Any, Any]:
    """Return a dict of the entries whose keys are text, bytes or small integers."""
    return {key: value for key, value in zip(keys, values, strict=True) if is_key(key)}


def pairs(items: Any) -> dict[Any, Any]:
    """Return the dict of `[[key, value], ...]`, as Python 2 pickles an OrderedDict."""
    found = [item for item in items if isinstance(item, list | tuple) and len(item) == 2]
    return mapping([item[0] for item in found], [item[1] for item in found])


def tensor_result(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return the tensor that one of torch's functions would rebuild, or a stand-in."""
    if name.startswith("torch._utils._rebuild_parameter"):
        return arguments[0]
    if name == "torch._tensor._rebuild_from_type_v2" and isinstance(arguments[0], Global):
        return tensor_result(arguments[0].name, arguments[2])
    if name.startswith("torch._utils._rebuild_tensor") and isinstance(arguments[0], Storage):
        storage, offset, shape, stride = arguments[:4]
        dtype = arguments[6].name if name.endswith("_v3") else None
        return TensorRecord(storage, natural_number(offset), natural_numbers(shape),
                            natural_numbers(stride), dtype)
    if name == "copyreg._reconstructor" or name == "copy_reg._reconstructor":
        name = arguments[0].name
    return StandIn(name)


def natural_numbers(values: Any) -> tuple[int, ...]:
    """Return a tuple of numbers from 0 on."""
    if len(values) > MOST_DIMENSIONS:
        raise PickleError(f"a tensor of it has {len(values)} dimensions")
    return tuple(map(natural_number, values))


def natural_number(value: Any) -> int:
    """Return a number from 0 on.

    Raises:
        PickleError: it is something else.
    """
    if isinstance(value, int) and 0 <= value < 1 << 62:
        return int(value)
    raise PickleError("a tensor of it has a size, stride or offset that is no number from 0 on")
