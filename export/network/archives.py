"""The two containers of torch checkpoints: the zip archive (torch 1.6 on) and the legacy stream.

Nothing is unpacked: records are slices of the file's content, which is in memory once.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from feredge.export.network.pickle_values import Global, PickleError, Storage
from feredge.export.network.pickles import PickleReader

MOST_RECORDS = 65_536
MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
LOCAL_HEADER_BYTES = 30
BYTES_PER_ELEMENT = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1,
    "BoolStorage": 1, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "UntypedStorage": 1,
}
TORCHSCRIPT = ("it is a TorchScript archive, which is a program; save the weights alone where you "
               "trust it: torch.save(torch.jit.load(PATH).state_dict(), 'weights.pth')")


@dataclass(frozen=True)
class Document:
    """The value of a checkpoint's pickle, and a reader of a storage's bytes by its key."""

    value: Any
    storage_bytes: Callable[[Storage], memoryview]


def read_zip(content: bytes) -> Document:
    """Read the archive that `torch.save` writes.

    Raises:
        PickleError: it is another archive, a TorchScript program, or damaged.
    """
    if content.count(b"PK\x01\x02") > MOST_RECORDS:
        raise PickleError(f"it is a zip archive of more than {MOST_RECORDS:,} records")
    with zipfile.ZipFile(BytesIO(content)) as archive:
        records = {record.filename: record for record in archive.infolist()}
    root = archive_root(records)
    budget = [len(content)]  # records may overlap: no more is read than the file has bytes

    def read(name: str) -> memoryview:
        if name not in records:
            raise PickleError(f"its archive lacks the record {safe_name(name)}")
        found = record_slice(content, records[name])
        budget[0] -= len(found)
        if budget[0] < 0 or zlib.crc32(found) != records[name].CRC:
            raise PickleError(f"its record {safe_name(name)} is altered; copy the file again")
        return found

    if f"{root}byteorder" in records and bytes(read(f"{root}byteorder")) != b"little":
        raise PickleError("it was saved on a big-endian machine; save it again on another one")
    reader = PickleReader(storage_record)
    value = reader.load(BytesIO(read(f"{root}data.pkl")))
    return Document(value, lambda storage: read(f"{root}data/{storage.key}"))


def archive_root(names: Mapping[str, object]) -> str:
    """Return the folder of an archive's records, with a slash.

    Raises:
        PickleError: it is not an archive of `torch.save`.
    """
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise PickleError(TORCHSCRIPT)
    roots = [name.removesuffix("data.pkl") for name in names if name.split("/")[1:] == ["data.pkl"]]
    if len(roots) != 1:
        held = ", ".join(map(safe_name, list(names)[:3])) or "nothing"
        raise PickleError(f"it is a zip archive that torch.save did not write; it holds {held}")
    return roots[0]


def record_slice(content: bytes, record: zipfile.ZipInfo) -> memoryview:
    """Return a record's bytes as a slice of the archive.

    Raises:
        PickleError: it is compressed, or reaches beyond the file.
    """
    name = safe_name(record.filename)
    if record.compress_type != zipfile.ZIP_STORED:
        raise PickleError(f"its record {name} is compressed, which torch.save never does; unpack "
                          "the archive and pack it again without compression (zip -0)")
    header = content[record.header_offset : record.header_offset + LOCAL_HEADER_BYTES]
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = record.header_offset + LOCAL_HEADER_BYTES + lengths
    found = memoryview(content)[start : start + record.file_size]
    if len(found) != record.file_size:
        raise PickleError(f"its record {name} is incomplete; copy the file again")
    return found


def read_legacy(content: bytes) -> Document:
    """Read the stream that torch 0.1 to 1.5 writes: five pickles, then the storages.

    Raises:
        PickleError: it is another pickle, or damaged.
    """
    stream, reader = BytesIO(content), PickleReader(storage_record)
    if reader.load(stream) != MAGIC_NUMBER:
        raise PickleError("it is a pickle that torch.save did not write; save the weights with "
                          "torch.save(model.state_dict(), 'weights.pth')")
    version, system = reader.load(stream), reader.load(stream)
    if version != PROTOCOL_VERSION or not isinstance(system, dict):
        found = version if isinstance(version, int) else type(version).__name__
        raise PickleError(f"its format is {found!s:.40}, expected {PROTOCOL_VERSION}")
    if system.get("little_endian") is not True:
        raise PickleError("it was saved on a big-endian machine; save it again on another one")
    storages: dict[str, Storage] = {}
    reader.storage_of = lambda persistent: known_storage(storage_record(persistent), storages)
    value, keys = reader.load(stream), reader.load(stream)
    offsets = storage_offsets(content, stream.tell(), keys, storages)
    return Document(value, lambda storage: legacy_bytes(content, offsets, storage))


def known_storage(value: Any, storages: dict[str, Storage]) -> Any:
    """Record a storage of the main pickle by its key, which fixes its type.

    Raises:
        PickleError: the same storage has two types.
    """
    if isinstance(value, Storage) and storages.setdefault(value.key, value).kind != value.kind:
        raise PickleError(f"its storage {safe_name(value.key)} has two types")
    return value


def storage_offsets(
    content: bytes, start: int, keys: Any, storages: Mapping[str, Storage]
) -> dict[str, tuple[int, int]]:
    """Return where each storage's bytes begin and end, checked against the file.

    Raises:
        PickleError: a storage is not the main pickle's, or the file ends before it does.
    """
    offsets: dict[str, tuple[int, int]] = {}
    for key in map(storage_key, keys if isinstance(keys, list) else []):
        if key not in storages:
            raise PickleError(f"its storage {safe_name(key)} belongs to no tensor")
        count = int.from_bytes(content[start : start + 8], "little", signed=True)
        end = start + 8 + count * BYTES_PER_ELEMENT[storages[key].kind]
        if not start + 8 <= end <= len(content):
            raise PickleError("it ends before its last tensor does; copy the file again")
        offsets[key], start = (start + 8, end), end
    return offsets


def legacy_bytes(
    content: bytes, offsets: Mapping[str, tuple[int, int]], storage: Storage
) -> memoryview:
    """Return a storage's bytes as a slice of the file.

    Raises:
        PickleError: the file does not hold it.
    """
    if storage.key not in offsets:
        raise PickleError(f"its storage {safe_name(storage.key)} is missing")
    start, end = offsets[storage.key]
    return memoryview(content)[start:end]


def storage_record(persistent: Any) -> Any:
    """Return the storage or class that a persistent id of torch describes.

    Raises:
        PickleError: it is another program's id, or a type of numbers that is not read here.
    """
    if not isinstance(persistent, tuple) or len(persistent) < 2:
        raise PickleError("its pickle refers to objects outside of it, which torch does not write")
    if persistent[0] == "module":  # a class and its source text
        return persistent[1]
    _, kind, named, _, count, *view = persistent
    key = storage_key(named)
    name = kind.name.rsplit(".", 1)[-1] if isinstance(kind, Global) else "?"
    if name not in BYTES_PER_ELEMENT:
        raise PickleError(f"its tensors are stored as {safe_name(name)}, which is not read here; "
                          "expected floating-point or integer tensors")
    offset = view[0][1] if view and view[0] is not None else 0
    if not isinstance(count, int) or not isinstance(offset, int) or min(count, offset) < 0:
        raise PickleError(f"its storage {safe_name(key)} has no valid size")
    return Storage(key, name, count, offset)


def storage_key(value: Any) -> str:
    """Return the key of a storage as text; the text of a nested value may be endless.

    Raises:
        PickleError: it is neither text nor a number.
    """
    if isinstance(value, str | int):
        return str(value)
    raise PickleError("its pickle names a storage by something else than text")


def safe_name(name: str) -> str:
    """Return a name of the file as a message can hold it: short, printable, on one line."""
    text = ascii(name[:60])[1:-1]
    return text + ("..." if name[60:] else "")
