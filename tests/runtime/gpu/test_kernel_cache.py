"""Compiling the kernel once: the cache, the choice of a compiler, and what is said without one."""

import os

import pytest

from feredge.runtime.errors import KernelError, PackageError
from feredge.runtime.gpu import compilers
from feredge.runtime.gpu import kernel_cache as compile
from feredge.runtime.gpu.device import cuda_driver
from feredge.runtime.preprocess.cuda import SOURCE


class FakeCompiler:
    """Counts how often it is asked."""

    def __init__(self, name="NVRTC 12.6", major=12, error=None):
        self.name, self.major, self.error, self.asked = name, major, error, []

    def cubin(self, source, architecture):
        self.asked.append(architecture)
        if self.error:
            raise KernelError(self.error)
        return b"\x7fELF" + architecture.encode()


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A compiler of CUDA 12.6, the only one of a machine whose cache is empty."""
    compiler = FakeCompiler()
    monkeypatch.setattr(compilers, "available_compilers", lambda: [compiler])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return compiler


def test_a_kernel_is_compiled_once_and_says_so_once(fake, capsys):
    first = compile.kernel_cubin(SOURCE, (8, 7), 12060)
    said = capsys.readouterr().err
    assert "compiling the crop kernel for sm_87 with NVRTC 12.6 ... 0.0 s" in said
    assert compile.kernel_cubin(SOURCE, (8, 7), 12060) == first == b"\x7fELFsm_87"
    assert fake.asked == ["sm_87"] and not capsys.readouterr().err


def test_another_gpu_toolkit_or_source_is_compiled_again(fake, monkeypatch, tmp_path):
    compile.kernel_cubin(SOURCE, (8, 7), 12060)
    compile.kernel_cubin(SOURCE, (8, 9), 12060)
    fake.name = "NVRTC 12.8"
    compile.kernel_cubin(SOURCE, (8, 7), 12060)
    (tmp_path / "warp_faces.cu").write_text("other")
    compile.kernel_cubin(tmp_path / "warp_faces.cu", (8, 7), 12060)
    assert fake.asked == ["sm_87", "sm_89", "sm_87", "sm_87"]


def test_a_damaged_cache_file_is_compiled_anew(fake, tmp_path):
    compile.kernel_cubin(SOURCE, (8, 7), 12060)
    (file,) = (tmp_path / "cache/feredge/kernels").iterdir()
    file.write_bytes(b"")
    compile.kernel_cubin(SOURCE, (8, 7), 12060)
    assert len(fake.asked) == 2 and file.read_bytes() == b"\x7fELFsm_87"


@pytest.mark.parametrize("fault", ["a file is in the way", "nothing can be renamed"])
def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(fake, monkeypatch, tmp_path, fault):
    if fault == "a file is in the way":
        (tmp_path / "cache").write_text("")
    else:
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    assert compile.kernel_cubin(SOURCE, (8, 7), 12060) == b"\x7fELFsm_87"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] in (
        [], [tmp_path / "cache"])  # nothing half-written is left


def test_a_compiler_that_fails_leaves_nothing_in_the_cache(fake, tmp_path):
    fake.error = "unknown GPU"
    with pytest.raises(KernelError, match="unknown GPU"):
        compile.kernel_cubin(SOURCE, (8, 7), 12060)
    assert not list(tmp_path.rglob("*.cubin"))


def test_a_compiler_newer_than_the_driver_is_passed_over(monkeypatch):
    new, old = FakeCompiler("NVRTC 13.0", 13), FakeCompiler("nvcc 12.6", 12)
    monkeypatch.setattr(compilers, "available_compilers", lambda: [new, old])
    assert compilers.find_compiler(12) is old
    assert compilers.find_compiler(13) is new


@pytest.mark.parametrize(
    "there, driver, said",
    [
        ([], 12, r"found none\. Install it with: pip install 'nvidia-cuda-nvrtc-cu12'"),
        ([], 13, r"pip install 'nvidia-cuda-nvrtc==13\.\*'"),
        ([FakeCompiler("nvcc 13.0", 13)], 12, r"CUDA 12 or older.*found nvcc 13\.0, too new"),
    ],
    ids=["none", "none-13", "too-new"],
)
def test_without_a_compiler_it_is_said_what_to_install(monkeypatch, there, driver, said):
    monkeypatch.setattr(compilers, "available_compilers", lambda: there)
    with pytest.raises(KernelError, match=said):
        compilers.find_compiler(driver)


def test_a_package_without_its_source_says_so(fake, tmp_path):
    with pytest.raises(KernelError, match=r"gone\.cu cannot be read .* install feredge again"):
        compile.kernel_cubin(tmp_path / "gone.cu", (8, 7), 12060)


def test_without_pycuda_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycuda.driver", None)
    with pytest.raises(PackageError, match=r"pip install 'feredge\[tensorrt\]'"):
        cuda_driver()
