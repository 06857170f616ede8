"""What the CPU can do with 8-bit weights, and a word of warning where it cannot."""

from __future__ import annotations

import os
import platform
import warnings
from pathlib import Path

from feredge.runtime.spec import ModelSpec

X86 = ("x86_64", "amd64", "i686")
CPUINFO = Path("/proc/cpuinfo")
INT8_FLAGS = ("avx2", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")  # the last two are ARM's


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Return the CPU's name and its INT8 extensions, as Linux tells them; elsewhere the name."""
    if not CPUINFO.is_file():
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in CPUINFO.read_text().splitlines())
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    name = facts.get("model name") or platform.machine()  # ARM's cpuinfo names no model
    flags = facts.get("flags", facts.get("Features", "")).split()
    return ", ".join([name, *(flag for flag in INT8_FLAGS if flag in flags)])


def exact_8_bit_weights() -> bool | None:
    """Tell whether onnxruntime's kernels are exact with 8-bit weights on this machine.

    x86 without VNNI adds pairs of 8-bit products in 16 bits and saturates. None: cannot tell.
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
