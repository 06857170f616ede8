"""What the CPU is called, as different machines tell it."""

import importlib.metadata
import json
import platform
import subprocess
import sys

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


def test_gpus_are_those_of_the_driver_or_a_jetson(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "NVIDIA_DRIVER", tmp_path / "gpus")
    monkeypatch.setattr(cpu, "DEVICE_MODEL", tmp_path / "model")
    assert cpu.gpu_names() == []
    cpu.DEVICE_MODEL.write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    assert cpu.gpu_names() == ["NVIDIA Jetson Orin Nano Developer Kit"]
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "gpus" / "0000:01:00.0" / "information").write_text(
        "Model: \t\t NVIDIA RTX A2000\nIRQ:   60\n")
    assert cpu.gpu_names() == ["NVIDIA RTX A2000"]


def test_the_command_prints_what_a_bug_report_needs():
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "feredge", *arguments], capture_output=True,
                              text=True, check=True).stdout

    text, facts = run(), json.loads(run("--json"))
    assert text.startswith(f"feredge {facts['feredge']}, Python {platform.python_version()}")
    assert "\nCPU: " in text and "\nGPU: " in text and f"numpy {facts['packages']['numpy']}" in text
    assert set(facts["packages"]) >= {"numpy", "onnxruntime"} and facts["cores"] >= 1
    assert run("--version").split()[-1] == facts["feredge"]


def test_missing_packages_are_listed_by_extra(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [
        "numpy>=1.23", 'numpy; extra == "one"', 'no-such-package>=2; extra == "two"',
        "feredge[one]; extra == 'two'"])
    assert cpu.missing_packages() == {"one": [], "two": ["no-such-package"]}
