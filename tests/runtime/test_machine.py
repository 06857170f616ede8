"""What the CPU is called, as different machines tell it."""

import platform

import pytest

from feredge.runtime import machine as cpu

X86 = """processor\t: 0
model name\t: AMD EPYC 9654 96-Core Processor
flags\t\t: fpu sse4_2 avx2 avx512_vnni
"""
ARM = """processor\t: 0
Features\t: fp asimd asimddp i8mm
CPU part\t: 0xd42
"""


@pytest.mark.parametrize(
    ("content", "name"),
    [(X86, "AMD EPYC 9654 96-Core Processor, avx2, avx512_vnni"), (ARM, "aarch64, asimddp, i8mm")],
    ids=["x86", "arm"],
)
def test_the_cpu_is_named_with_its_int8_extensions(tmp_path, monkeypatch, content, name):
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    cpu.CPUINFO.write_text(content)
    assert cpu.cpu_name() == name


def test_the_cpu_has_a_name_without_cpuinfo(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "missing")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert cpu.cpu_name() == "arm64"
