"""What a machine tells of its state: clocks, power mode, temperature, power, throttling.

Everything is read, nothing is set; what a machine does not tell is None or an empty table.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GPU_FIELDS = ("name", "driver_version", "clocks.sm", "clocks.mem", "temperature.gpu", "power.draw",
              "clocks_throttle_reasons.active", "power.limit")
CPU0 = "sys/devices/system/cpu/cpu0"


def sensors(root: Path = Path("/")) -> dict[str, Any]:
    """Return a machine's state.

    Args:
        root: where `/sys`, `/proc` and the like are found.

    Returns:
        `cpu_mhz` and its maximum, `governor`, `temperatures_c` by zone, `cooling` (the devices that
        slow the machine down just now), `throttle_count` since the start, `power_w` by rail, and
        for a Jetson its `board`, `jetpack` release and `power_mode`; `gpu` as NVML tells it.
    """
    return {
        "board": text(root / "proc/device-tree/model"),
        "jetpack": text(root / "etc/nv_tegra_release"),
        "power_mode": text(root / "var/lib/nvpmodel/status"),
        "governor": text(root / CPU0 / "cpufreq/scaling_governor"),
        "cpu_mhz": scaled(root / CPU0 / "cpufreq/scaling_cur_freq", 1e3),
        "cpu_max_mhz": scaled(root / CPU0 / "cpufreq/cpuinfo_max_freq", 1e3),
        "throttle_count": scaled(root / CPU0 / "thermal_throttle/core_throttle_count", 1),
        "temperatures_c": dict(temperatures(root)),
        "cooling": dict(cooling(root)),
        "power_w": dict(rails(root)),
        "gpu": nvidia_gpu(),
    }


def text(path: Path) -> str | None:
    """Return a file's first line; None if it cannot be read or holds nothing."""
    try:
        lines = path.read_text(errors="replace").strip("\0\n ").splitlines()
    except OSError:
        return None
    return lines[0] if lines else None


def scaled(path: Path, unit: float) -> float | None:
    """Return the number that a file holds, in a larger unit."""
    try:
        return float(text(path) or "") / unit
    except ValueError:
        return None


def temperatures(root: Path) -> Iterator[tuple[str, float]]:
    """Yield every thermal zone; one that is switched off cannot be read."""
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        degrees = scaled(zone / "temp", 1e3)
        if degrees is not None:
            yield text(zone / "type") or zone.name, degrees


def cooling(root: Path) -> Iterator[tuple[str, float]]:
    """Yield the cooling devices that are at work: a fan, or a limit on clocks."""
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        if state := scaled(device / "cur_state", 1):
            yield text(device / "type") or device.name, state


def rails(root: Path) -> Iterator[tuple[str, float]]:
    """Yield the watts of every rail that a Jetson's INA3221 measures."""
    for chip in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*")):
        for label in sorted(chip.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            volts = scaled(chip / f"in{number}_input", 1e3)
            amperes = scaled(chip / f"curr{number}_input", 1e3)
            if volts is not None and amperes is not None:
                yield text(label) or label.name, volts * amperes


def nvidia_gpu() -> dict[str, str] | None:
    """Return what NVML tells of the first GPU, by its own command."""
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader", "-i",
               "0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    values = [value.strip() for value in done.stdout.strip().split(",")]
    told = {name: value for name, value in zip(GPU_FIELDS, values) if "N/A" not in value}
    return told or None
