"""Facts about the machine: CPU, GPU, and installed packages."""

from __future__ import annotations

import os
import platform
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feredge.runtime.spec import ModelSpec

X86 = ("x86_64", "amd64", "i686")
CPUINFO = Path("/proc/cpuinfo")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/gpus")
DEVICE_MODEL = Path("/proc/device-tree/model")  # of a Jetson, for example
INT8_FLAGS = ("avx2", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")  # the last two are ARM's
PACKAGES = ("feredge", "numpy", "opencv-python", "opencv-python-headless", "onnxruntime", "torch",
            "onnx", "onnx-ir", "onnxscript", "tensorrt", "tensorrt_rtx_cu13", "pycuda", "openvino")


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Return the name of the CPU and, on Linux, its INT8 extensions."""
    if not CPUINFO.is_file():
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in CPUINFO.read_text().splitlines())
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    name = facts.get("model name") or platform.machine()  # ARM's cpuinfo names no model
    flags = facts.get("flags", facts.get("Features", "")).split()
    return ", ".join([name, *(flag for flag in INT8_FLAGS if flag in flags)])


def has_gstreamer() -> bool:
    """Return whether this cv2 was built with GStreamer."""
    import cv2

    lines = cv2.getBuildInformation().splitlines()
    return any("GStreamer" in line and "YES" in line for line in lines)


def gpu_names() -> list[str]:
    """Return the names of NVIDIA's GPUs as the driver reports them on Linux; else nothing."""
    found = [re.search(r"^Model:\s*(.+)$", file.read_text(), re.MULTILINE)
             for file in sorted(NVIDIA_DRIVER.glob("*/information"))]
    names = [match[1].strip() for match in found if match]
    if not names and DEVICE_MODEL.is_file():
        model = DEVICE_MODEL.read_text(errors="replace").strip("\0\n ")
        names = [model] if "Jetson" in model else []
    return names


def package_version(name: str) -> str | None:
    """Return the version of a distribution; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to load

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def describe_machine(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Return CPU, GPUs, system, Python and the installed packages, as JSON types.

    Args:
        packages: the distributions to look up.
    """
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "gpus": gpu_names(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in packages if (found := package_version(name))},
    }


def missing_packages() -> dict[str, list[str]]:
    """Return for each extra of this distribution the packages that are not installed.

    An extra with an empty list is usable. Requirements for other platforms are not checked.
    """
    from importlib.metadata import requires

    missing: dict[str, list[str]] = {}
    for requirement in requires("feredge") or []:
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        name = re.match(r"[\w.-]+", requirement)
        if extra and name:
            absent = missing.setdefault(extra[1], [])
            if name[0] != "feredge" and package_version(name[0]) is None:
                absent.append(name[0])
    return missing


def exact_8_bit_weights() -> bool | None:
    """Return whether onnxruntime's kernels are exact with 8-bit weights on this machine.

    x86 CPUs without VNNI add pairs of 8-bit products in 16 bits, which saturates. None: unknown.
    """
    if platform.machine().lower() not in X86:
        return True
    if not CPUINFO.is_file():
        return None
    flags = set(CPUINFO.read_text().split())
    return bool(flags & {"avx512_vnni", "avx_vnni"})


def warn_if_unfit(spec: ModelSpec, path: Path) -> None:
    """Warn that an 8-bit graph loses accuracy on an x86 CPU without VNNI."""
    if spec.target.weight_bits == 8 and exact_8_bit_weights() is False:
        warnings.warn(
            f"{path} has 8-bit weights and this CPU has no VNNI: its INT8 sums saturate and "
            "accuracy falls by points; export with: fer-export --int8 --cpu avx2",
            stacklevel=2,
        )
