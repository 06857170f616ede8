"""Kernels compiled for the GPU of this machine, once: later runs read them from the cache."""

from __future__ import annotations

import hashlib
import sys
import time
from contextlib import suppress
from pathlib import Path

from feredge.runtime.environment import cache_folder
from feredge.runtime.errors import KernelError, OutputError
from feredge.runtime.files import atomic_write
from feredge.runtime.gpu.compilers import OPTIONS, Compiler, find_compiler

ELF = b"\x7fELF"


def kernel_cubin(
    source: Path, compute_capability: tuple[int, int], driver_version: int
) -> bytes:
    """Return the kernels of a .cu file for a GPU, from the cache or compiled now.

    Args:
        source: the .cu file.
        compute_capability: of the GPU, such as `(8, 7)`.
        driver_version: the CUDA version of its driver, as the driver counts: 12060 for 12.6.

    Raises:
        KernelError: no compiler is installed whose cubins the driver loads, or it does not support
            the GPU.
    """
    architecture = "sm_{}{}".format(*compute_capability)
    compiler = find_compiler(driver_version // 1000)
    text = source_text(source)
    cached = cache_file(source.stem, text, architecture, compiler)
    cubin = read_cubin(cached)
    if cubin is None:
        cubin = compile_kernels(compiler, text, architecture)
        write_cubin(cubin, cached)
    return cubin


def source_text(source: Path) -> str:
    """Return the source of the kernels.

    Raises:
        KernelError: the package's file is missing.
    """
    try:
        return source.read_text()
    except OSError as error:
        raise KernelError(f"{source} cannot be read ({error}); install feredge again") from error


def cache_file(name: str, text: str, architecture: str, compiler: Compiler) -> Path:
    """Return where a cubin is cached: another source, GPU or toolkit is another file."""
    recipe = "\n".join((text, architecture, compiler.name, *OPTIONS))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    return cache_folder() / "kernels" / f"{name}-{architecture}-{digest}.cubin"


def compile_kernels(compiler: Compiler, text: str, architecture: str) -> bytes:
    """Compile, with a line on stderr: it takes a second or more on a Jetson."""
    print(f"compiling the crop kernel for {architecture} with {compiler.name} ...", end=" ",
          file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        cubin = compiler.cubin(text, architecture)
    except KernelError:
        print("failed", file=sys.stderr)
        raise
    print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr)
    return cubin


def read_cubin(cached: Path) -> bytes | None:
    """Return a cached cubin; None without one that can be read."""
    try:
        cubin = cached.read_bytes()
    except OSError:
        return None
    return cubin if cubin.startswith(ELF) else None


def write_cubin(cubin: bytes, cached: Path) -> None:
    """Write a cubin into the cache, atomically; without effect where that is read-only."""
    with suppress(OSError, OutputError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cached) as temporary:
            temporary.write_bytes(cubin)
