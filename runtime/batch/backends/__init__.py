"""Backends: what runs the tasks; one interface, one file per backend."""

from __future__ import annotations

from feredge.runtime.batch.backends.base import Backend
from feredge.runtime.batch.options import NONE, BatchOptions
from feredge.runtime.batch.tasks import Job

__all__ = ["Backend", "open_backend"]


def open_backend(options: BatchOptions, job: Job) -> Backend:
    """Start the workers that the options select.

    Raises:
        UsageError: the cluster cannot be reached, or has no GPU for a plan.
        PackageError: Ray is not installed.
    """
    if options.ray == NONE:
        from feredge.runtime.batch.backends.processes import ProcessBackend

        return ProcessBackend(job, options.workers)
    from feredge.runtime.batch.backends.ray import RayBackend

    return RayBackend(job, options.workers, options.ray)
