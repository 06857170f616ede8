"""The protobuf wire format, as far as an ONNX file is inspected before onnxruntime reads it."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SIZES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10


class WireError(ValueError):
    """Bytes that are no protobuf message."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield `(number, value)` of every field of a message, in the order of the file.

    A value is an integer, or the bytes of a string, a submessage, packed numbers or a fixed-size
    number.

    Raises:
        WireError: the message is truncated or malformed.
    """
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        number, kind = key >> 3, key & 7
        if not number:
            raise WireError("field 0")
        if kind == VARINT:
            value, place = varint(message, place)
            yield number, value
            continue
        if kind == BYTES:
            size, place = varint(message, place)
        elif kind in SIZES:
            size = SIZES[kind]
        else:
            raise WireError(f"wire type {kind}")
        if size > len(message) - place:
            raise WireError("truncated")
        yield number, message[place : place + size]
        place += size


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return a variable-length integer and the place behind it.

    Raises:
        WireError: it is truncated or longer than 64 bits.
    """
    if place < len(message) and message[place] < 0x80:  # nearly all of them
        return message[place], place + 1
    value = 0
    for k in range(MAX_VARINT_BYTES):
        if place + k >= len(message):
            raise WireError("truncated")
        byte = message[place + k]
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value, place + k + 1
    raise WireError("integer too long")


class Reader:
    """Reads messages until a file's fields exceed a limit: small fields could fill the memory."""

    def __init__(self, max_fields: int) -> None:
        self.left = max_fields

    def group(self, message: memoryview) -> dict[int, list[int | memoryview]]:
        """Return the values of a message by field number, in the order of the file.

        Raises:
            WireError: the message is truncated or malformed, or the limit is exceeded.
        """
        found: dict[int, list[int | memoryview]] = {}
        for number, value in fields(message):
            self.left -= 1
            if self.left < 0:
                raise WireError("too many fields")
            found.setdefault(number, []).append(value)
        return found


def texts(values: list[int | memoryview]) -> list[str]:
    """Return string fields."""
    return [bytes(value).decode("utf-8", errors="replace") for value in values
            if isinstance(value, memoryview)]
