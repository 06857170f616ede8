"""Fixtures: the emulated CUDA driver with PyCUDA on it, and the warp kernel loaded there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "emulation"))

import emulated_cuda
from emulated_cuda import or_skip


@pytest.fixture(scope="session")
def emulated_driver() -> Any:
    """The emulated libcuda, with `emulated_allocations()`; PyCUDA can be imported from now on."""
    return or_skip(emulated_cuda.load)


@pytest.fixture(scope="session")
def cuda_context(emulated_driver: Any) -> Iterator[Any]:
    """The primary context of the emulated device, current in this thread."""
    import pycuda.driver as cuda

    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    yield context
    context.pop()


@pytest.fixture(scope="session")
def warp_module(cuda_context: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The warp kernel, compiled by the code that compiles it on a GPU."""
    from feredge.runtime.preprocess.cuda import load_module

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return load_module()


@pytest.fixture(scope="session")
def sanitized_runner() -> Callable[[Path], Path]:
    """From a .cu file to the program that runs its kernels under sanitizers."""
    return lambda kernel: or_skip(emulated_cuda.sanitized_runner, kernel)


@pytest.fixture(scope="session")
def nvcc() -> Path:
    """The CUDA toolkit's compiler."""
    path: Path = or_skip(emulated_cuda.nvcc)
    return path
