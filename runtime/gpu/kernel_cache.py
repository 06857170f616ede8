"""The crop kernel compiled for the GPU at hand, once: later runs take it from the cache."""

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

SOURCE = Path(__file__).parents[1] / "preprocess" / "warp_faces.cu"
ELF = b"\x7fELF"


def kernel_cubin(compute_capability: tuple[int, int], driver_version: int) -> bytes:
    """Return the crop kernel for a GPU, from the cache or compiled now.

    Args:
        compute_capability: of the GPU, such as `(8, 7)`.
        driver_version: the CUDA version of its driver, as the driver counts: 12060 for 12.6.

    Raises:
        KernelError: no compiler whose cubins the driver loads, or it knows no such GPU.
    """
    architecture = "sm_{}{}".format(*compute_capability)
    compiler = find_compiler(driver_version // 1000)
    source = source_text()
    cached = cache_file(source, architecture, compiler)
    cubin = read_cubin(cached)
    if cubin is None:
        cubin = compiled(compiler, source, architecture)
        keep(cubin, cached)
    return cubin


def source_text() -> str:
    """Return the kernel's source.

    Raises:
        KernelError: it is not where the package has it.
    """
    try:
        return SOURCE.read_text()
    except OSError as error:
        raise KernelError(f"{SOURCE} cannot be read ({error}); install feredge again") from error


def cache_file(source: str, architecture: str, compiler: Compiler) -> Path:
    """Return where a cubin is kept: another source, GPU or toolkit is another file."""
    recipe = "\n".join((source, architecture, compiler.name, *OPTIONS))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    return cache_folder() / "kernels" / f"{SOURCE.stem}-{architecture}-{digest}.cubin"


def compiled(compiler: Compiler, source: str, architecture: str) -> bytes:
    """Compile, and say so: it takes a second or more on a Jetson."""
    print(f"compiling the crop kernel for {architecture} with {compiler.name} ...", end=" ",
          file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        cubin = compiler.cubin(source, architecture)
    except KernelError:
        print("failed", file=sys.stderr)
        raise
    print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr)
    return cubin


def read_cubin(cached: Path) -> bytes | None:
    """Return a cached cubin, None where there is none that can be read."""
    try:
        cubin = cached.read_bytes()
    except OSError:
        return None
    return cubin if cubin.startswith(ELF) else None


def keep(cubin: bytes, cached: Path) -> None:
    """Put a cubin into the cache, whole or not at all; a cache that cannot be written is left."""
    with suppress(OSError, OutputError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cached) as temporary:
            temporary.write_bytes(cubin)
