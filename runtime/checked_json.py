"""The one way from JSON text to dataclasses: every type and every number is checked.

A text from a file or a network becomes a valid object, or a SpecError of one line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from math import isfinite
from typing import Any, NoReturn, TypeVar

from feredge.runtime.errors import SpecError

T = TypeVar("T")

MAX_INTEGER = 2**53  # beyond it, JSON readers disagree
MAX_TEXT = 10_000  # characters of one string
SHOWN = 60  # characters of a value in a message
# The JSON types of a field, by its annotation.
JSON_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,),
    "tuple[float, ...]": (list,), "tuple[str, ...]": (list,), "tuple[int, ...]": (list,),
    "Mapping[str, Any]": (dict,), "Mapping[str, float]": (dict,),
}
ITEM_TYPES = {"tuple[float, ...]": "float", "tuple[str, ...]": "str", "tuple[int, ...]": "int",
              "Mapping[str, float]": "float"}


def check(holds: bool, message: str) -> None:
    """Raise a SpecError unless a condition holds."""
    if not holds:
        raise SpecError(message)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Check that a number is finite and in a range."""
    check(isinstance(value, int | float) and low <= value <= high,
          f"{name} is {show(value)}, expected a number from {low:g} to {high:g}")


def show(value: object) -> str:
    """Return a value for a message, cut to a few words; numbers of any size are safe."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_INTEGER:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list | dict):
        return f"{type(value).__name__} of {len(value)}" if len(value) > 4 else (
            f"[{', '.join(map(show, value))}]")
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def parse_json(text: str) -> Any:
    """Parse JSON; NaN and infinities are refused.

    Raises:
        SpecError: the text is not JSON, or nested too deeply.
    """

    def refuse(constant: str) -> NoReturn:
        raise SpecError(f"it holds {constant}, which is not a number of JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError as error:
        reason = str(error).splitlines()[0][:200]
        raise SpecError(f"not JSON: {reason}") from error
    except RecursionError as error:
        raise SpecError("not JSON that can be read: it is nested too deeply") from error


def format_json(spec: Any) -> str:
    """Return a dataclass as JSON that `build` reads.

    Raises:
        SpecError: a value is not JSON, such as NaN.
    """
    try:
        return json.dumps(asdict(spec), indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SpecError(f"the spec cannot be written as JSON: {error}") from error


def build(cls: type[T], document: Any, parts: dict[str, type[Any]], where: str = "") -> T:
    """Build a frozen dataclass from a JSON object; unknown fields are ignored.

    Args:
        cls: the dataclass; its annotations must be strings.
        document: a parsed JSON value.
        parts: the dataclasses of nested objects, by the name of their field.
        where: the prefix of field names in messages.

    Raises:
        SpecError: a field is missing, of another type, or out of its range.
    """
    check(isinstance(document, dict), f"{where or 'the document'} is not an object")
    values: dict[str, Any] = {}
    for item in fields(cls):  # type: ignore[arg-type]
        name = f"{where}{item.name}"
        if item.name not in document:
            is_required = item.default is MISSING and item.default_factory is MISSING
            check(not is_required, f"{name} is missing")
            continue
        value = document[item.name]
        if item.name in parts and not (value is None and str(item.type).endswith("| None")):
            values[item.name] = build(parts[item.name], value, parts, f"{name}.")
        else:
            values[item.name] = read_value(value, str(item.type), name)
    return cls(**values)


def read_value(value: Any, annotation: str, name: str) -> Any:
    """Check one JSON value against the annotation of a field; a list becomes a tuple."""
    base = annotation.removesuffix(" | None")
    if value is None and base != annotation:
        return None
    wanted = JSON_TYPES[base]
    fits = isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool))
    check(fits, f"{name} is {show(value)}, expected {base}")
    if base in ITEM_TYPES:
        read = reader(ITEM_TYPES[base], name)
        return ({key: read(item) for key, item in value.items()} if isinstance(value, dict)
                else tuple(map(read, value)))
    if base == "float":
        check(abs(value) <= MAX_INTEGER or (isinstance(value, float) and isfinite(value)),
              f"{name} is {show(value)}, expected a finite number")
        return float(value)
    check(not isinstance(value, int) or abs(value) <= MAX_INTEGER,
          f"{name} is {show(value)}, expected at most {MAX_INTEGER}")
    check(not isinstance(value, str) or len(value) <= MAX_TEXT,
          f"{name} has {len(value) if isinstance(value, str) else 0} characters, expected at most "
          f"{MAX_TEXT}")
    return value


def reader(annotation: str, name: str) -> Callable[[Any], Any]:
    """Return a function that checks one item of a list or an object."""
    return lambda item: read_value(item, annotation, name)
