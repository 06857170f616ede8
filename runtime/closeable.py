"""Objects that free their resources at the end of a `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Closeable(ABC):
    """Base of engines, detectors and sources."""

    @abstractmethod
    def close(self) -> None:
        """Free all resources; closing twice is allowed."""

    def __enter__(self) -> Self:
        """Return the object itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free all resources."""
        self.close()
