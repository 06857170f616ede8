"""Read checkpoints of every kind; nothing of a file is executed, imported or unpacked."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from feredge.export.network.archives import read_legacy, read_zip
from feredge.export.network.foreign import foreign_kind
from feredge.export.network.pickle_values import PickleError
from feredge.export.network.state import (
    STATE_KEYS,
    describe_content,
    find_state,
    plain_names,
    tensors_of,
)
from feredge.runtime.errors import CheckpointError

MOST_FILE_BYTES = 1 << 30
MOST_HEADER_BYTES = 4 << 20  # of a safetensors file: about 40,000 tensors


@dataclass(frozen=True)
class Checkpoint:
    """Weights as they were saved: tensors by name, text metadata, and the file's SHA-256."""

    state: Mapping[str, Tensor]
    sha256: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a safetensors file, or what `torch.save` wrote since torch 0.1.11.

    The file holds a state dict, a dict with one, or a whole module. It is read once; the hash is
    of the bytes that are used.

    Raises:
        CheckpointError: missing, damaged, of another kind, or without a state dict.
    """
    content = read_content(Path(path))
    digest = hashlib.sha256(content).hexdigest()
    try:
        if content[8:9] == b"{":
            return safetensors_checkpoint(content, digest, path)
        return Checkpoint(pickled_state(content, path), digest)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can break its reader in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"checkpoint {path} is damaged or no checkpoint: "
                              f"{reason or type(error).__name__}") from error


def read_content(path: Path) -> bytes:
    """Read a regular file of a plausible size.

    Raises:
        CheckpointError: it is missing, no regular file, or too large.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise CheckpointError(f"checkpoint {path} cannot be read: it is no regular file")
        if facts.st_size > MOST_FILE_BYTES:
            raise CheckpointError(f"checkpoint {path} has {facts.st_size / 1e9:.1f} GB, more than "
                                  "any network here: save its state dict without the optimizer")
        with path.open("rb") as file:
            return file.read(MOST_FILE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"checkpoint {path} cannot be read: {reason}") from error


def safetensors_checkpoint(content: bytes, digest: str, path: str | Path) -> Checkpoint:
    """Return the tensors and the text metadata of a safetensors file.

    Raises:
        CheckpointError: it holds no tensors.
    """
    length = int.from_bytes(content[:8], "little")
    if length > MOST_HEADER_BYTES:
        raise PickleError(f"its header has {length:,} bytes, more than {MOST_HEADER_BYTES:,}")
    tensors = load(content)
    if not tensors:
        raise CheckpointError(f"checkpoint {path} holds no state dict: it has no tensors")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    state = {plain: tensors[name] for name, plain in plain_names(tensors).items()}
    return Checkpoint(state, digest, metadata)


def pickled_state(content: bytes, path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of what `torch.save` wrote.

    Raises:
        CheckpointError: it holds no state dict; names what it holds.
        PickleError: it is damaged, or something else.
    """
    if kind := foreign_kind(content):
        raise PickleError(f"it is {kind}")
    document = (read_zip if content[:2] == b"PK" else read_legacy)(content)
    state = find_state(document.value)
    if state is None:
        raise CheckpointError(f"checkpoint {path} holds no state dict: expected tensors by name, "
                              f"or a dict with one under {', '.join(STATE_KEYS)}; "
                              f"{describe_content(document.value)}")
    return tensors_of(state, document)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights that no file holds."""
    return hashlib.sha256(save(dict(state))).hexdigest()
