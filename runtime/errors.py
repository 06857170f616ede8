"""What can go wrong through no fault of the code: each message says what to do next."""

from __future__ import annotations

import importlib
from types import ModuleType


class FeredgeError(Exception):
    """Base of every error that a command prints as one line, without a traceback."""


class UsageError(FeredgeError):
    """Arguments that do not go together."""


class SpecError(FeredgeError):
    """A ModelSpec is missing, incomplete or contradicts itself."""


class EngineError(FeredgeError):
    """An engine or detector file cannot be used here."""


class SourceError(FeredgeError):
    """A picture, video or camera cannot be read."""


class OutputError(FeredgeError):
    """A result cannot be written."""


class BoxError(FeredgeError, ValueError):
    """A face box from which no crop can be cut."""


class CheckpointError(FeredgeError):
    """Weights that do not fit the network they are meant for."""


class CalibrationError(FeredgeError):
    """Ranges that cannot be measured, or that belong to other weights."""


class ExportError(FeredgeError):
    """An exported graph that is not what it claims to be."""


class KernelError(FeredgeError):
    """The CUDA kernel cannot be compiled here."""


class PackageError(FeredgeError):
    """A package that this step needs is not installed."""


def require(package: str, extra: str | None = None) -> ModuleType:
    """Import a package that only this step needs.

    Args:
        package: the module to import.
        extra: the extra of this distribution that brings it; None for a core requirement.

    Raises:
        PackageError: it is not installed or does not load, with the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        wanted = "feredge" if extra is None else f"'feredge[{extra}]'"
        raise PackageError(f"{package}: {error}; install it with: pip install {wanted}") from error
