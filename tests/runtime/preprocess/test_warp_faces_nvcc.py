"""The warp kernel compiled for real GPUs, which takes none: warnings, registers, spills."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from emulated_cuda import KERNEL

from feredge.runtime.errors import KernelError
from feredge.runtime.gpu import compilers
from feredge.runtime.gpu.compilers import OPTIONS, Nvcc

# Turing, A100, Ampere, Orin, Ada, Hopper, Blackwell, Thor, RTX 50; Xavier where nvcc still has it.
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 110, 120)
IF_LISTED = (72,)
MAX_REGISTERS = 64  # eight blocks of 128 threads have them on every one of these
WITHOUT_SPILLS, MAX_SPILLED_BYTES = (80, 86, 87, 89), 32  # stores and loads of a thread
# What nvcc 13.0 takes for float crops with a replicated border on an Orin.
REGISTERS_87 = {"interleaved3": 64, "interleaved4": 64, "gray": 64, "nv12": 64}


@pytest.fixture(scope="module")
def report(nvcc, tmp_path_factory):
    """What ptxas says: {(kernel, architecture): (registers, spilled bytes)}."""
    listed = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True).stdout
    chosen = [*ARCHITECTURES, *(number for number in IF_LISTED if f"sm_{number}\n" in listed)]
    targets = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in chosen]
    target = tmp_path_factory.mktemp("nvcc") / "warp_faces.fatbin"
    done = subprocess.run(
        [nvcc, "-fatbin", *targets, *OPTIONS, "--threads=2", "-Werror=all-warnings", "-Xptxas=-v",
         "-o", target, KERNEL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return parsed(done.stdout + done.stderr)


def parsed(log):
    kernels = re.split(r"Compiling entry function ", log)[1:]
    found = {}
    for text in kernels:
        name, number = re.match(r"'(\w+)' for 'sm_(\d+)'", text).groups()
        spilled = map(int, re.search(r"(\d+) bytes spill stores, (\d+) bytes", text).groups())
        found[name, int(number)] = int(re.search(r"Used (\d+) registers", text)[1]), sum(spilled)
    return found


def test_every_variant_compiles_for_every_gpu_with_few_spills(report):
    """None on the GPUs of Jetson Orin and of desktops up to Ada; at most 32 bytes on others."""
    assert {number for _, number in report} >= set(ARCHITECTURES)
    assert len({name for name, _ in report}) == 16
    assert len(report) % 16 == 0
    over = {key: value for key, value in report.items() if value[0] > MAX_REGISTERS
            or value[1] > (0 if key[1] in WITHOUT_SPILLS else MAX_SPILLED_BYTES)}
    assert not over


def test_an_orin_takes_the_registers_that_are_written_down(report, nvcc):
    if "release 13.0" not in subprocess.run([nvcc, "--version"], capture_output=True,
                                            text=True).stdout:
        pytest.skip("the table is nvcc 13.0's")
    for name, registers in REGISTERS_87.items():
        assert report[f"warp_{name}_replicate_fp32", 87][0] == registers


def test_spills_are_seen():
    log = ("ptxas info : Compiling entry function 'warp' for 'sm_87'\n 8 bytes stack frame, "
           "16 bytes spill stores, 24 bytes spill loads\nptxas info : Used 40 registers")
    assert parsed(log) == {("warp", 87): (40, 40)}


def test_nvcc_makes_a_cubin_and_says_why_not(nvcc, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path=None: str(nvcc))
    found = compilers.find_nvcc()
    assert isinstance(found, Nvcc) and found.major >= 12
    assert found.cubin(KERNEL.read_text(), "sm_87")[:4] == b"\x7fELF"
    with pytest.raises(KernelError, match=r"nvcc .* does not compile for sm_87: .*identifier"):
        found.cubin("__global__ void f() { nowhere(); }", "sm_87")


NVRTC = """
from pathlib import Path
from feredge.runtime.errors import KernelError
from feredge.runtime.gpu.compilers import MAJORS, open_nvrtc
found = next(filter(None, map(open_nvrtc, MAJORS)), None)
if found is None:
    raise SystemExit(77)
source = Path({kernel!r}).read_text()
for architecture in ("sm_87", "sm_89", "sm_120"):
    assert found.cubin(source, architecture)[:4] == b"\\x7fELF"
try:
    found.cubin("__global__ void f() {{ nowhere(); }}", "sm_87")
except KernelError as error:
    assert "does not compile for sm_87" in str(error) and "nowhere" in str(error)
else:
    raise SystemExit("it should not compile")
"""


@pytest.mark.slow
def test_nvrtc_makes_cubins_and_says_why_not():
    # A process of its own: in this one the name may belong to the emulation.
    code = NVRTC.format(kernel=str(KERNEL))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=Path(__file__).parent)
    if done.returncode == 77:
        pytest.skip("NVRTC is not installed")
    assert done.returncode == 0, done.stderr
