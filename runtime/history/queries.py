"""The history's report: hourly shares, people, time in view and device health."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from feredge.runtime.errors import OutputError, SourceError
from feredge.runtime.history.store import open_database

HOUR_S = 3600
DEFAULT_MIN_PEOPLE = 3
# People are tracks; a face without a track counts as a person of its own, as in a folder of
# pictures.
HOURLY = """
SELECT start / 3600 * 3600 AS hour, sources.name, labels.name, SUM(seconds), SUM(frames),
       SUM(confidence * frames) / SUM(frames)
FROM windows JOIN sources ON sources.id = source JOIN labels ON labels.id = label
WHERE start >= ? GROUP BY hour, source, label ORDER BY hour, sources.name, label
"""
PEOPLE = """
SELECT hour, name, SUM(people) FROM (
    SELECT start / 3600 * 3600 AS hour, source, COUNT(DISTINCT run << 32 | track) AS people
    FROM windows WHERE start >= ? AND track > 0 GROUP BY hour, source
    UNION ALL SELECT start / 3600 * 3600 AS hour, source, SUM(frames) FROM windows
    WHERE start >= ? AND track = 0 GROUP BY hour, source)
JOIN sources ON sources.id = source GROUP BY hour, source
"""
IN_VIEW = """
SELECT sources.name, SUM(seconds) FROM windows JOIN sources ON sources.id = source
WHERE start >= ? AND track > 0 GROUP BY source, run, track
"""
HEALTH = """
SELECT start / 3600 * 3600 AS hour, sources.name, SUM(frames), SUM(dropped), AVG(age_ms),
       MAX(age_ms), MAX(temperature_c), COUNT(*)
FROM health JOIN sources ON sources.id = source WHERE start >= ?
GROUP BY hour, source ORDER BY hour, sources.name
"""
STAGES = """
SELECT stage, SUM(mean_ms * frames) / SUM(frames), MAX(most_ms), SUM(frames) FROM stages
WHERE start >= ? GROUP BY stage
"""


@dataclass(frozen=True)
class HourlyShares:
    """One hour of one source.

    Attributes:
        hour: Unix time of its start, seconds.
        source: the source's name.
        people: tracks, and faces without a track.
        shares: each label's share of the time in view; None where there were fewer people than the
            report asks for.
        confidence: mean probability of the labels; None as `shares`.
    """

    hour: int
    source: str
    people: int
    shares: dict[str, float] | None
    confidence: float | None


@dataclass(frozen=True)
class HistoryReport:
    """What a history file says of a period; `to_dict` gives it as JSON's types."""

    since: int
    min_people: int
    labels: list[str]
    hours: list[HourlyShares]
    people: dict[str, dict[str, float]]
    health: list[dict[str, Any]]
    stages: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's types."""
        return {**vars(self), "hours": [vars(hour) for hour in self.hours]}


def read_report(path: Path, since: int, min_people: int) -> HistoryReport:
    """Read a report from a history file, also while a run writes to it.

    Args:
        path: the history file.
        since: Unix time in seconds.
        min_people: hours and sources with fewer people show nothing about them, so that no single
            person can be followed.

    Raises:
        SourceError: there is no such file.
        OutputError: it is no history file, or it is damaged.
    """
    if not path.is_file():
        raise SourceError(f"history {path} does not exist; fer-run --history FILE records one")
    database = open_database(path)
    try:
        labels = [name for (name,) in database.execute("SELECT name FROM labels ORDER BY id")]
        return HistoryReport(
            since, min_people, labels, list(read_hours(database, since, min_people)),
            read_people(database, since, min_people), list(read_health(database, since)),
            read_stages(database, since))
    except sqlite3.Error as error:
        raise OutputError(f"history {path} cannot be read: {error}") from error
    finally:
        database.close()


def read_hours(
    database: sqlite3.Connection, since: int, min_people: int
) -> Iterator[HourlyShares]:
    """Yield the hours in order, each source's by itself."""
    people = {(hour, source): int(count)
              for hour, source, count in database.execute(PEOPLE, (since, since))}
    sums: dict[tuple[int, str], list[tuple[str, float, int, float]]] = {}
    for hour, source, *row in database.execute(HOURLY, (since,)):
        sums.setdefault((hour, source), []).append((row[0], row[1], row[2], row[3]))
    for (hour, source), rows in sums.items():
        count = people.get((hour, source), 0)
        if count < min_people:
            yield HourlyShares(hour, source, count, None, None)
        else:
            yield HourlyShares(hour, source, count, *shares_of(rows))


def shares_of(rows: list[tuple[str, float, int, float]]) -> tuple[dict[str, float], float]:
    """Return each label's share, and the mean confidence, from label, seconds, frames, confidence.

    Pictures have no duration: there the share is one of frames.
    """
    seconds, frames = sum(row[1] for row in rows), sum(row[2] for row in rows)
    weights = {row[0]: row[1] / seconds if seconds else row[2] / frames for row in rows}
    confidence = sum(row[3] * row[2] for row in rows) / frames
    return {label: round(share, 4) for label, share in weights.items()}, round(confidence, 4)


def read_people(
    database: sqlite3.Connection, since: int, min_people: int
) -> dict[str, dict[str, float]]:
    """Return for each source the number of tracks, and their median and longest time in view."""
    seconds: dict[str, list[float]] = {}
    for source, total in database.execute(IN_VIEW, (since,)):
        seconds.setdefault(source, []).append(total)
    return {source: {"people": len(times), "median_s": round(median(times), 1),
                     "longest_s": round(max(times), 1)}
            for source, times in seconds.items() if len(times) >= min_people}


def read_health(database: sqlite3.Connection, since: int) -> Iterator[dict[str, Any]]:
    """Yield the device's health by hour and source: frames/s, dropped frames, age, temperature."""
    for hour, source, frames, dropped, age, most_age, temperature, windows in database.execute(
            HEALTH, (since,)):
        yield {"hour": hour, "source": source, "frames": frames,
               "fps": round(frames / (10 * windows), 2), "dropped": dropped,
               "age_ms": None if age is None else round(age, 1), "most_age_ms": most_age,
               "temperature_c": temperature}


def read_stages(database: sqlite3.Connection, since: int) -> dict[str, dict[str, float]]:
    """Return each stage's mean and longest time."""
    return {stage: {"mean_ms": round(mean, 3), "most_ms": round(most, 3), "frames": frames}
            for stage, mean, most, frames in database.execute(STAGES, (since,))}
