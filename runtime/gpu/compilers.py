"""The two compilers that turn a .cu file into a cubin: NVRTC, a library, and nvcc, a program."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from feredge.runtime.environment import cuda_folders
from feredge.runtime.errors import KernelError

OPTIONS = ("-std=c++17",)
MAJORS = (13, 12)  # newest first


class Compiler(Protocol):
    """Whatever turns CUDA C++ into a cubin."""

    name: str
    major: int

    def cubin(self, source: str, architecture: str) -> bytes:
        """Compile for an architecture such as `sm_87`.

        Raises:
            KernelError: it does not compile, or not for this architecture.
        """


def find_compiler(driver_major: int) -> Compiler:
    """Return a compiler whose cubins a driver of this CUDA version loads, NVRTC first.

    Raises:
        KernelError: there is none; says what to install.
    """
    too_new = []
    for compiler in available_compilers():
        if compiler.major <= driver_major:
            return compiler
        too_new.append(compiler.name)
    found = f"found {', '.join(too_new)}, too new for it" if too_new else "found none"
    raise KernelError(
        f"compiling the crop kernel takes NVRTC or nvcc of CUDA {driver_major} or older, the "
        f"driver's version; {found}. Install it with: pip install "
        f"'{nvrtc_package(driver_major)}', or take the CUDA toolkit of your JetPack or system"
    )


def nvrtc_package(major: int) -> str:
    """Return what PyPI calls the NVRTC of a CUDA version."""
    return f"nvidia-cuda-nvrtc-cu{major}" if major < 13 else f"nvidia-cuda-nvrtc=={major}.*"


def available_compilers() -> Iterator[Compiler]:
    """Look for compilers, NVRTC before nvcc: it is faster and needs no host compiler."""
    for major in MAJORS:
        if nvrtc := open_nvrtc(major):
            yield nvrtc
    if nvcc := find_nvcc():
        yield nvcc


class Nvrtc:
    """NVRTC through ctypes."""

    def __init__(self, library: ctypes.CDLL) -> None:
        major, minor = ctypes.c_int(), ctypes.c_int()
        library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.library, self.major = library, major.value
        self.name = f"NVRTC {major.value}.{minor.value}"

    def cubin(self, source: str, architecture: str) -> bytes:
        """Compile for an architecture such as `sm_87`."""
        program = ctypes.c_void_p()
        self.call("CreateProgram", ctypes.byref(program), source.encode(), b"warp_faces.cu", 0,
                  None, None)
        try:
            options = [option.encode() for option in (f"-arch={architecture}", *OPTIONS)]
            array = (ctypes.c_char_p * len(options))(*options)
            if self.library.nvrtcCompileProgram(program, len(options), array):
                log = self.text("ProgramLog", program).decode(errors="replace").rstrip("\0\n")
                raise KernelError(f"{self.name} does not compile for {architecture}: {log}")
            return self.text("CUBIN", program)
        finally:
            self.library.nvrtcDestroyProgram(ctypes.byref(program))

    def text(self, what: str, program: ctypes.c_void_p) -> bytes:
        """Return a log or a cubin: its size is asked for first."""
        size = ctypes.c_size_t()
        self.call(f"Get{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"Get{what}", program, buffer)
        return buffer.raw

    def call(self, function: str, *arguments: Any) -> None:
        """Call `nvrtc{function}` and check what it returns."""
        status = getattr(self.library, f"nvrtc{function}")(*arguments)
        if status:
            raise KernelError(f"{self.name}: nvrtc{function} failed with status {status}")


def open_nvrtc(major: int) -> Nvrtc | None:
    """Open the system's NVRTC of a CUDA version, or else PyPI's."""
    # A Jetson's own comes first: it is of the driver's version.
    folders = [folder / "lib64" for folder in cuda_folders()] + pypi_folders(major)
    for folder in (None, *folders):
        try:
            return Nvrtc(load_library(f"libnvrtc.so.{major}", folder))
        except (OSError, AttributeError):
            continue
    return None


def load_library(name: str, folder: Path | None) -> ctypes.CDLL:
    """Load a library, by its name alone where no folder is given.

    Raises:
        OSError: it is not there or does not load.
    """
    if folder is None:
        return ctypes.CDLL(name)
    # NVRTC looks for its other half by name alone, and not beside itself.
    for half in folder.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(half), ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(folder / name))


def pypi_folders(major: int) -> list[Path]:
    """Return where the `nvidia-cuda-nvrtc` packages of PyPI keep their libraries."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
    parts = (f"cu{major}", "cuda_nvrtc")
    return [root / part / "lib" for root in roots for part in parts]


class Nvcc:
    """nvcc, which needs a host compiler beside it."""

    def __init__(self, program: str, major: int, minor: int) -> None:
        self.program, self.major = program, major
        self.name = f"nvcc {major}.{minor}"

    def cubin(self, source: str, architecture: str) -> bytes:
        """Compile for an architecture such as `sm_87`."""
        with tempfile.TemporaryDirectory() as folder:
            file, target = Path(folder) / "warp_faces.cu", Path(folder) / "warp_faces.cubin"
            file.write_text(source)
            done = subprocess.run(
                [self.program, "-cubin", f"-arch={architecture}", *OPTIONS, "-o", target, file],
                capture_output=True, text=True,
            )
            if done.returncode:
                raise KernelError(f"{self.name} does not compile for {architecture}: "
                                  f"{(done.stderr or done.stdout).strip()}")
            return target.read_bytes()


def find_nvcc() -> Nvcc | None:
    """Return the nvcc on the path or of a toolkit, if it runs."""
    folders = [str(folder / "bin") for folder in cuda_folders()]
    for program in (shutil.which("nvcc"), *(shutil.which("nvcc", path=path) for path in folders)):
        if program is None:
            continue
        try:
            done = subprocess.run([program, "--version"], capture_output=True, text=True)
        except OSError:
            continue
        if release := re.search(r"release (\d+)\.(\d+)", done.stdout):
            return Nvcc(program, int(release[1]), int(release[2]))
    return None
