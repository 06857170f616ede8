"""Builds the emulated CUDA driver, and PyCUDA on it, once: both are kept in a cache folder.

PyCUDA takes about a minute to build, the rest a few seconds; each is built again when what it is
made of changes. The emulation shows whether code is right, never how fast it is.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
KERNEL = HERE.parents[1] / "runtime" / "preprocess" / "warp_faces.cu"
PYCUDA = "pycuda==2026.1"
DEPENDENCIES = ("pytools", "platformdirs", "mako", "markupsafe", "siphash24", "typing-extensions")
TOOLKITS = (Path("/usr/local/cuda"),)
NOT_SUPPORTED = 801
SITECONF = """
BOOST_INC_DIR = BOOST_LIB_DIR = []
BOOST_COMPILER = "gcc43"
USE_SHIPPED_BOOST = True
BOOST_PYTHON_LIBNAME = BOOST_THREAD_LIBNAME = []
CUDA_TRACE = CUDA_ENABLE_GL = CUDA_ENABLE_CURAND = False
CUDA_ROOT = {root!r}
CUDADRV_LIB_DIR = [{libraries!r}]
CUDADRV_LIBNAME = ["cuda"]
CUDART_LIB_DIR = CURAND_LIB_DIR = []
CUDART_LIBNAME = CURAND_LIBNAME = []
CXXFLAGS = ["-O0", "-g0"]
LDFLAGS = ["-Wl,--no-as-needed"]
"""


# nvrtc.cpp reads them in the same way.
KERNEL_NAME = re.compile(
    r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) *)?(\w+)\(')


class MissingTool(Exception):
    """What the emulation is built with is not on this machine."""


def or_skip(build: Callable[..., Any], *arguments: Any) -> Any:
    """Build something; where its tools are missing, CI fails and others skip."""
    try:
        return build(*arguments)
    except MissingTool as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; CI needs it")
        pytest.skip(str(missing))


def toolkit() -> Path:
    """Return the folder of a CUDA toolkit with nvcc and headers."""
    named, program = os.environ.get("CUDA_HOME"), shutil.which("nvcc")
    found = [Path(named)] if named else []
    found += [Path(program).resolve().parents[1]] if program else []
    for root in (*found, *TOOLKITS):
        if (root / "include" / "cuda.h").is_file():
            return root
    raise MissingTool("no CUDA toolkit: nvcc and cuda.h are needed")


def nvcc() -> Path:
    """Return the toolkit's compiler."""
    program = toolkit() / "bin" / "nvcc"
    if not program.is_file():
        raise MissingTool(f"{program} does not exist")
    return program


def cache() -> Path:
    """Return where builds are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "feredge-tests"


def built(name: str, parts: tuple[str | bytes, ...], build: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, built now if nothing was built from these parts before."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    folder = cache() / f"{name}-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        cache().mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=cache(), prefix=f".{name}-"))
        try:
            build(beside)
            beside.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another run was faster
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Run a tool and return what it says."""
    try:
        done = subprocess.run([str(part) for part in command], cwd=folder, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError as error:
        raise MissingTool(f"{command[0]} is not installed") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def pycuda_site() -> Path:
    """Return a site folder with PyCUDA, built against the toolkit's headers."""
    root = toolkit()
    tag = sysconfig.get_config_var("SOABI")
    parts = (PYCUDA, tag, np.__version__.split(".")[0], str(root.resolve()), SITECONF)
    return built("pycuda", parts, lambda folder: build_pycuda(root, folder))


def build_pycuda(root: Path, site: Path) -> None:
    """Build PyCUDA from its source distribution; the driver is found when it is loaded."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            run(*pip, "download", "--no-deps", "--no-binary", "pycuda", "--dest", folder, PYCUDA)
        except RuntimeError as error:
            raise MissingTool(f"the source of {PYCUDA} cannot be fetched: {error}") from error
        (archive,) = folder.glob("pycuda*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        (source,) = (path for path in folder.glob("pycuda*") if path.is_dir())
        # Something to link against, so that the library's name is recorded.
        run("g++", "-shared", "-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so", "-x", "c++",
            "/dev/null")
        (source / "siteconf.py").write_text(SITECONF.format(root=str(root), libraries=name))
        run(*pip, "install", "--no-deps", "--target", site, source)
        run(*pip, "install", "--no-deps", "--target", site, *DEPENDENCIES)


def emulation() -> Path:
    """Return a folder with `libcuda.so.1` and `libnvrtc.so.13`, both emulated."""
    names = ("driver.cpp", "nvrtc.cpp", "cuda_host.hpp")
    site, include = pycuda_site(), toolkit() / "include"
    parts = (site.name, *((HERE / name).read_bytes() for name in names))
    return built("emulation", parts, lambda folder: build_emulation(site, include, folder))


def build_emulation(site: Path, include: Path, folder: Path) -> None:
    """Compile the driver, with a refusing stub for whatever else PyCUDA links to, and NVRTC."""
    shutil.copy(HERE / "cuda_host.hpp", folder)
    common = ("g++", "-std=c++17", "-O1", "-fPIC", "-Wall")
    run(*common, "-c", f"-I{include}", "-o", folder / "driver.o", HERE / "driver.cpp")
    (module,) = (site / "pycuda").glob("_driver*.so")
    wanted, there = symbols("-D", "-u", module), symbols("--defined-only", folder / "driver.o")
    stubs = "".join(f"int {name}() {{ return {NOT_SUPPORTED}; }}\n"
                    for name in sorted(wanted - there) if name.startswith("cu"))
    (folder / "stubs.cpp").write_text(f'extern "C" {{\n{stubs}}}\n')
    run(*common, "-shared", "-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so.1",
        folder / "driver.o", folder / "stubs.cpp", "-ldl")
    run(*common, "-shared", "-Wl,-soname,libnvrtc.so.13", "-o", folder / "libnvrtc.so.13",
        HERE / "nvrtc.cpp", "-ldl")


def symbols(*arguments: str | Path) -> set[str]:
    """Return the names that `nm` lists."""
    lines = run("nm", *arguments).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if line.strip()}


def load() -> ctypes.CDLL:
    """Load the emulated driver and NVRTC into this process, and put PyCUDA on its path.

    A library that is loaded already is what its name means from then on, to PyCUDA and to ctypes.
    """
    folder = emulation()
    driver = ctypes.CDLL(str(folder / "libcuda.so.1"), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(folder / "libnvrtc.so.13"), ctypes.RTLD_GLOBAL)
    for name in ("allocations", "stack_depth", "retained", "streams", "count", "violations"):
        getattr(driver, f"emulated_{name}").restype = ctypes.c_size_t
    driver.emulated_violation.restype = ctypes.c_char_p
    driver.emulate_order.argtypes = [ctypes.c_uint64]
    driver.emulate_failure.argtypes = [ctypes.c_size_t]
    sys.path.insert(0, str(pycuda_site()))
    return driver


SANITIZERS = ("-g", "-fsanitize=address,undefined,float-cast-overflow",
              "-fno-sanitize-recover=all")


def sanitized_runner(kernel: Path = KERNEL) -> Path:
    """Return `run_launch` with the kernels of a .cu file, under both sanitizers."""
    return runner(kernel, "sanitized", SANITIZERS)


def counting_runner(kernel: Path = KERNEL) -> Path:
    """Return `run_launch` with the kernels of a .cu file; it prints the sectors of their loads."""
    return runner(kernel, "counting", ("-DCOUNT_SECTORS",))


def runner(kernel: Path, name: str, flags: tuple[str, ...]) -> Path:
    """Return `run_launch` with the kernels of a .cu file, compiled with flags."""
    parts = (*((HERE / file).read_bytes() for file in ("run_launch.cpp", "cuda_host.hpp")),
             kernel.read_bytes(), *flags)
    folder = built(name, parts, lambda folder: build_runner(kernel, flags, folder))
    return folder / "run_launch"


def build_runner(kernel: Path, flags: tuple[str, ...], folder: Path) -> None:
    """Compile the kernels for the CPU."""
    names = KERNEL_NAME.findall(run("g++", "-E", "-P", "-x", "c++", kernel))
    wrappers = "".join(f"EMULATED_KERNEL({name})\n" for name in names)
    (folder / "launches.cpp").write_text(
        f'#include "{HERE / "cuda_host.hpp"}"\n#include "{kernel}"\n{wrappers}')
    run("g++", "-std=c++17", "-O1", *flags, "-rdynamic", "-o", folder / "run_launch",
        HERE / "run_launch.cpp", folder / "launches.cpp", "-ldl")
