"""Values that Linux shows as files: one number or one line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

THERMAL_ZONES = "sys/class/thermal"


def read_line(path: Path) -> str | None:
    """Return the first line of a file; None if it cannot be read or is empty."""
    try:
        lines = path.read_text(errors="replace").strip("\0\n ").splitlines()
    except OSError:
        return None
    return lines[0] if lines else None


def read_number(path: Path, unit: float) -> float | None:
    """Return the number in a file, divided by a unit; None if there is none."""
    try:
        return float(read_line(path) or "") / unit
    except ValueError:
        return None


def temperatures_c(root: Path = Path("/")) -> Iterator[tuple[str, float]]:
    """Yield name and temperature of every thermal zone that can be read; some are switched off.

    Args:
        root: the folder that holds `/sys`.
    """
    for zone in sorted((root / THERMAL_ZONES).glob("thermal_zone*")):
        degrees = read_number(zone / "temp", 1e3)
        if degrees is not None:
            yield read_line(zone / "type") or zone.name, degrees
