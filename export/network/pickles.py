"""An interpreter for the part of pickle that checkpoints use; it calls and imports nothing.

`pickletools.genops` decodes the opcodes and checks every length against the stream. This module
executes them on containers, numbers and text alone. A class or function of the pickle becomes a
`Global`, an object of any class a `StandIn`, a tensor a `TensorRecord` that holds no data.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

from feredge.export.network.pickle_values import (
    Global,
    PickleError,
    StandIn,
    call_result,
    is_key,
    mapping,
)

MOST_OPCODES = 1_000_000  # of one file; about 25,000 tensors with their optimizer state
MOST_MARKS = 1_000  # depth of nested containers
MOST_INTEGER_BITS = 128  # torch's magic number has 80

ARGUMENTS = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
))
CONSTANTS: dict[str, bool | None] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set,
                          "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleReader:
    """Executes pickles of one file; all of them share one limit on opcodes.

    Args:
        storage_of: returns the value of a persistent id.
    """

    def __init__(self, storage_of: Callable[[Any], Any]) -> None:
        self.storage_of = storage_of
        self.work = 0
        self.handlers: dict[str, Callable[[Any], None]] = {
            "MARK": self._mark, "POP": self._pop, "POP_MARK": self._discard, "DUP": self._duplicate,
            "PUT": self._store, "BINPUT": self._store, "LONG_BINPUT": self._store,
            "MEMOIZE": self._memoize, "GET": self._load, "BINGET": self._load,
            "LONG_BINGET": self._load, "LIST": self._list, "TUPLE": self._tuple,
            "DICT": self._dict, "FROZENSET": self._set, "APPEND": self._append,
            "APPENDS": self._append_all, "SETITEM": self._set_item, "SETITEMS": self._set_items,
            "ADDITEMS": self._add_items, "GLOBAL": self._global, "STACK_GLOBAL": self._stack_global,
            "REDUCE": self._reduce, "NEWOBJ": self._reduce, "NEWOBJ_EX": self._new_with_keywords,
            "INST": self._instance, "OBJ": self._object, "BUILD": self._build,
            "BINPERSID": self._persistent, "PERSID": self._text_persistent,
        }

    def load(self, stream: IO[bytes]) -> Any:
        """Execute one pickle and return its value; the stream then stands behind it.

        Raises:
            PickleError: it is damaged, or exceeds a limit.
        """
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                self._spend(1)
                self._execute(opcode.name, argument)
            return self.stack.pop()
        except PickleError:
            raise
        except Exception as error:  # any opcode may stand anywhere in a damaged file
            raise PickleError(f"its pickle is damaged ({type(error).__name__})") from error

    def _spend(self, work: int) -> None:
        self.work += work
        if self.work > MOST_OPCODES:
            raise PickleError(f"its pickle has more than {MOST_OPCODES:,} steps")

    def _execute(self, name: str, argument: Any) -> None:
        if name in ARGUMENTS:
            if isinstance(argument, int) and argument.bit_length() > MOST_INTEGER_BITS:
                raise PickleError("its pickle holds an integer of more than 128 bits")
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES:
            self.stack[-TUPLES[name]:] = [tuple(self.stack[-TUPLES[name]:])]
        elif name in self.handlers:
            self.handlers[name](argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise PickleError(f"its pickle uses {name}, which torch does not write")

    def _mark(self, _: Any) -> None:
        if len(self.marks) >= MOST_MARKS:
            raise PickleError(f"its pickle nests deeper than {MOST_MARKS}")
        self.marks.append(self.stack)
        self.stack = []

    def _items(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._items()

    def _discard(self, _: Any) -> None:
        self._items()

    def _duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _store(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _load(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def _list(self, _: Any) -> None:
        items = self._items()
        self.stack.append(items)

    def _tuple(self, _: Any) -> None:
        items = self._items()
        self.stack.append(tuple(items))

    def _dict(self, _: Any) -> None:
        items = self._items()
        self.stack.append(mapping(items[::2], items[1::2]))

    def _set(self, _: Any) -> None:
        items = self._items()
        self.stack.append({item for item in items if is_key(item)})

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        if isinstance(self.stack[-1], list):
            self.stack[-1].append(value)

    def _append_all(self, _: Any) -> None:
        items = self._items()
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(mapping([key], [value]))

    def _set_items(self, _: Any) -> None:
        items = self._items()
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(mapping(items[::2], items[1::2]))

    def _add_items(self, _: Any) -> None:
        items = self._items()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(item for item in items if is_key(item))

    def _global(self, argument: str) -> None:
        self.stack.append(Global(argument.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        is_text = isinstance(module, str) and isinstance(name, str)
        self.stack.append(Global(f"{module}.{name}" if is_text else "?"))

    def _reduce(self, _: Any) -> None:
        arguments, callee = self.stack.pop(), self.stack.pop()
        self.stack.append(self._result(callee, arguments))

    def _new_with_keywords(self, _: Any) -> None:
        self.stack.pop()
        self._reduce(None)

    def _instance(self, argument: str) -> None:
        self._items()
        self.stack.append(StandIn(argument.replace(" ", ".", 1)))

    def _object(self, _: Any) -> None:
        callee, *arguments = self._items()
        self.stack.append(self._result(callee, tuple(arguments)))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(state, tuple) and len(state) == 2:  # (__dict__, slots)
            state = state[0]
        if isinstance(self.stack[-1], StandIn) and isinstance(state, dict):
            self.stack[-1].attributes = state

    def _persistent(self, _: Any) -> None:
        self.stack.append(self.storage_of(self.stack.pop()))

    def _text_persistent(self, argument: str) -> None:
        self.stack.append(self.storage_of(argument))

    def _result(self, callee: Any, arguments: Any) -> Any:
        given = arguments if isinstance(arguments, tuple) else ()
        if given and isinstance(given[0], list | tuple | set):
            self._spend(len(given[0]))
        return call_result(callee.name if isinstance(callee, Global) else "?", given)
