"""The errors of inputs, files and devices; each message is one line and names what to do next."""

from __future__ import annotations

import importlib
from types import ModuleType


class FeredgeError(Exception):
    """Base of all errors that a command prints as one line, without a traceback."""


class UsageError(FeredgeError):
    """Options that are out of their range or exclude each other."""


class SpecError(FeredgeError):
    """A ModelSpec is missing, incomplete or inconsistent."""


class EngineError(FeredgeError):
    """An engine or detector file cannot be used here."""


class SourceError(FeredgeError):
    """A picture, video or camera cannot be read."""


class OutputError(FeredgeError):
    """A result cannot be written."""


class BoxError(FeredgeError, ValueError):
    """A face box from which no crop can be cut."""


class CheckpointError(FeredgeError):
    """A checkpoint cannot be read, or does not fit its network."""


class CalibrationError(FeredgeError):
    """Ranges cannot be measured or read, or belong to other weights."""


class ExportError(FeredgeError):
    """A graph cannot be exported, or fails its checks."""


class KernelError(FeredgeError):
    """The CUDA kernel cannot be compiled here."""


class PackageError(FeredgeError):
    """A package that a step needs is not installed."""


def require(package: str, extra: str | None = None) -> ModuleType:
    """Import a package that only some steps need.

    Args:
        package: the module to import.
        extra: the extra of this distribution that installs it; None for a core requirement.

    Raises:
        PackageError: it is not installed or does not load, with the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        needed = "feredge" if extra is None else f"'feredge[{extra}]'"
        raise PackageError(f"{package}: {error}; install it with: pip install {needed}") from error
