"""Close all outputs at the end of a run, without hiding its first error."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from feredge.runtime.errors import FeredgeError, OutputError
from feredge.runtime.outputs.base import AnnotatedOutput, Output

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class Outputs:
    """The outputs of a run; leaving the `with` block closes all of them.

    An error of `close` is raised only if the block has not failed itself: the first error is the
    one that the user needs. The others are logged.
    """

    plain: list[Output] = field(default_factory=list)
    annotated: list[AnnotatedOutput] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Return the outputs."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every output."""
        close_all([*self.plain, *self.annotated], has_failed=error is not None)


def close_all(outputs: Iterable[Output | AnnotatedOutput], has_failed: bool = False) -> None:
    """Close every output, also if one of them fails.

    Args:
        outputs: what to close.
        has_failed: an error is already on its way to the user; those of `close` are logged only.

    Raises:
        OutputError: the first error of `close`, unless `has_failed`.
    """
    failures = [failure for output in outputs if (failure := close_one(output)) is not None]
    for failure in failures[0 if has_failed else 1 :]:
        logging.getLogger(__name__).warning("%s", failure)
    if failures and not has_failed:
        raise failures[0]


def close_one(output: Output | AnnotatedOutput) -> FeredgeError | None:
    """Close an output; return its error."""
    try:
        output.close()
    except FeredgeError as error:
        return error
    except OSError as error:
        return OutputError(f"an output cannot be completed: {error.strerror or error}")
    return None
