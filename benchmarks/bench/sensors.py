"""The state of a machine: clocks, power mode, temperature, power, throttling.

Everything is read, nothing is set; a value that the machine does not report is None or an empty
table.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from feredge.runtime.sysfs import read_line, read_number, temperatures_c

GPU_FIELDS = ("name", "driver_version", "clocks.sm", "clocks.mem", "temperature.gpu", "power.draw",
              "clocks_throttle_reasons.active", "power.limit")
CPU0 = "sys/devices/system/cpu/cpu0"


def sensors(root: Path = Path("/")) -> dict[str, Any]:
    """Return a machine's state.

    Args:
        root: the folder that holds `/sys`, `/proc` and so on.

    Returns:
        `cpu_mhz` and its maximum, `governor`, `temperatures_c` by zone, `cooling` (the active
        cooling devices), `throttle_count` since boot, `power_w` by rail; on a Jetson `board`,
        `jetpack` release and `power_mode`; `gpu` as NVML reports it.
    """
    return {
        "board": read_line(root / "proc/device-tree/model"),
        "jetpack": read_line(root / "etc/nv_tegra_release"),
        "power_mode": read_line(root / "var/lib/nvpmodel/status"),
        "governor": read_line(root / CPU0 / "cpufreq/scaling_governor"),
        "cpu_mhz": read_number(root / CPU0 / "cpufreq/scaling_cur_freq", 1e3),
        "cpu_max_mhz": read_number(root / CPU0 / "cpufreq/cpuinfo_max_freq", 1e3),
        "throttle_count": read_number(root / CPU0 / "thermal_throttle/core_throttle_count", 1),
        "temperatures_c": dict(temperatures_c(root)),
        "cooling": dict(cooling_devices(root)),
        "power_w": dict(rails(root)),
        "gpu": nvidia_gpu(),
    }


def cooling_devices(root: Path) -> Iterator[tuple[str, float]]:
    """Yield the cooling devices that are active: a fan, or a limit on clocks."""
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        if state := read_number(device / "cur_state", 1):
            yield read_line(device / "type") or device.name, state


def rails(root: Path) -> Iterator[tuple[str, float]]:
    """Yield the power of every rail that a Jetson's INA3221 measures, in watts."""
    for chip in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*")):
        for label in sorted(chip.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            volts = read_number(chip / f"in{number}_input", 1e3)
            amperes = read_number(chip / f"curr{number}_input", 1e3)
            if volts is not None and amperes is not None:
                yield read_line(label) or label.name, volts * amperes


def nvidia_gpu() -> dict[str, str] | None:
    """Return the first GPU's state from nvidia-smi; None without an NVIDIA GPU."""
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader", "-i",
               "0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    values = [value.strip() for value in done.stdout.strip().split(",")]
    fields = {name: value for name, value in zip(GPU_FIELDS, values) if "N/A" not in value}
    return fields or None
