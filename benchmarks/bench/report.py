"""One run of fer-bench: everything that was asked for, as one document and as text."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.bench.answers import Difference, differences, face_crops
from feredge.benchmarks.bench.baselines import BASELINES, Subject, form_of
from feredge.benchmarks.bench.candidates import Candidate, candidate_of, check_alike
from feredge.benchmarks.bench.sensors import sensors
from feredge.benchmarks.bench.timing import Statistics, alternated, speed_up
from feredge.benchmarks.eval.records import environment
from feredge.runtime.detect.options import DetectorOptions
from feredge.runtime.engines import open_engine
from feredge.runtime.engines.base import Engine
from feredge.runtime.errors import SourceError
from feredge.runtime.machine import cores
from feredge.runtime.results import Array

SPLITS = 20


@dataclass(frozen=True)
class Asked:
    """What fer-bench was asked for; see its `--help`."""

    engine: Sequence[Path]
    batch: Sequence[int] = (1, 2, 4, 8, 16)
    duration: float = 3.0
    warmup: float = 0.2
    baseline: Sequence[str] = ()
    checkpoint: Path | None = None
    source: Path | None = None
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    peak: bool = False
    profile: bool = False


def conditions(asked: Asked) -> str:
    """Return a file name that tells runs apart."""
    sizes = "-".join(map(str, asked.batch))
    clip = "" if asked.source is None else f"-{asked.source.stem}"
    rivals = "".join(f"-{name}" for name in asked.baseline)
    return f"{asked.engine[0].name}-b{sizes}-{cores()}cores{rivals}{clip}"


def measured(asked: Asked) -> dict[str, Any]:
    """Open everything, compare answers, then time.

    Raises:
        FeredgeError: what cannot be measured, before anything is.
    """
    if asked.source is not None and not asked.source.is_file():
        raise SourceError(f"source {asked.source} does not exist")
    with ExitStack() as stack:
        engines = [stack.enter_context(open_engine(path)) for path in asked.engine]
        check_alike(asked.engine, engines, asked.batch)
        subject = Subject(asked.engine[0], engines[0], asked.checkpoint)
        candidates = [candidate_of(path, engine) for path, engine in zip(asked.engine, engines)]
        for name in asked.baseline:
            candidates += BASELINES[name](subject)
        crops, shown = face_crops(engines[0].spec)
        found = differences(candidates, crops)
        report: dict[str, Any] = {
            "side": engines[0].spec.input.side, "threads": cores(), "crops": shown,
            "before": sensors(), "rows": list(timed_rows(asked, candidates, found, crops)),
        }
        if asked.peak:
            add_shares(report, asked.engine[0])
        if asked.profile:
            report["operators"] = profiles(asked, crops)
        if asked.source is not None:
            report["clip"] = piped_clip(asked, engines[0])
    return {**report, "environment": environment()}


def timed_rows(
    asked: Asked, candidates: Sequence[Candidate], found: Sequence[Difference], crops: Array
) -> Iterator[dict[str, Any]]:
    """Yield one row a candidate and batch."""
    for batch in asked.batch:
        faces = np.resize(crops, (batch, *crops.shape[1:]))
        runs = [partial(candidate.infer, faces) for candidate in candidates]
        samples = alternated(runs, asked.duration, asked.warmup)
        power_w = sensors()["power_w"] or None
        for candidate, difference, taken in zip(candidates, found, samples):
            statistics = Statistics.of(taken)
            if statistics.is_noisy:
                warnings.warn(f"{candidate.name}, batch {batch}: half of the samples spread over "
                              f"{statistics.noise:.0%} of the median; something else runs on this "
                              "machine, repeat it when it is quiet", stacklevel=2)
            yield {
                "engine": candidate.name, "precision": candidate.precision, "batch": batch,
                **asdict(statistics), "faces_per_s": batch / statistics.median_s,
                "speed_up": asdict(speed_up(samples[0], taken)), "answers": asdict(difference),
                "gpu": split(candidate, faces), "power_w": power_w, "seconds": taken,
            }


def split(candidate: Candidate, crops: Array) -> dict[str, float] | None:
    """Return the median of every part of an inference on a GPU, ms; None on a CPU."""
    if candidate.split is None:
        return None
    parts = [candidate.split(crops) for _ in range(SPLITS)]
    return {name: float(np.median([part[name] for part in parts])) for name in parts[0]}


def add_shares(report: dict[str, Any], first: Path) -> None:
    """Add what share of the device's peak every row is."""
    from feredge.benchmarks.bench.peak import measured_peak, published_peak, share_of, work_of

    state = report["before"]
    on_gpu = first.suffix == ".plan"
    gpu = (state["gpu"] or {}).get("name")
    peak = published_peak(state["board"], gpu) if on_gpu else measured_peak()
    if peak is None:
        warnings.warn(f"no published peak is known of {gpu or state['board']}", stacklevel=2)
        return
    report["peak"] = asdict(peak)
    graph = form_of(first, ".onnx", "--peak")
    for row in report["rows"]:
        work = work_of(graph, row["precision"], row["batch"])
        row["peak"] = share_of(peak, work, row["precision"], row["median_s"])


def profiles(asked: Asked, crops: Array) -> dict[str, dict[str, dict[str, float]]]:
    """Profile every ONNX engine, by batch: operators and their milliseconds."""
    from feredge.benchmarks.bench.operators import operator_ms

    return {str(batch): {path.name: operator_ms(path, np.resize(crops, (batch, *crops.shape[1:])))
                         for path in asked.engine if path.suffix == ".onnx"}
            for batch in asked.batch}


def piped_clip(asked: Asked, engine: Engine) -> dict[str, Any]:
    """Run the whole pipeline on the clip."""
    from feredge.benchmarks.bench.clip import clip_report
    from feredge.runtime.detect import open_detector

    assert asked.source is not None
    with open_detector(asked.detector, engine) as detector:
        return clip_report(asked.source, detector, engine)


COLUMNS = ("engine", "batch", "median", "p90", "p95", "p99", "noise", "samples", "faces/s",
           "times as fast", "same label", "largest change", "same label, export")


def cells(row: dict[str, Any]) -> list[str]:
    """Return a row as the table's texts; times in milliseconds."""
    times = [f"{row[key] * 1e3:.2f}" for key in ("median_s", "p90_s", "p95_s", "p99_s")]
    ratio, answers = row["speed_up"], row["answers"]
    recorded = answers["recorded"] or {}
    return [row["engine"], str(row["batch"]), *times, f"{row['noise']:.1%}", str(row["samples"]),
            f"{row['faces_per_s']:.1f}",
            f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
            f"{answers['same_label']:.1%}", f"{answers['largest_change']:.4f}",
            f"{recorded['top1']:.2%} of {recorded['faces']}" if recorded else ""]


def report_text(report: dict[str, Any], markdown: bool) -> str:
    """Return a report's tables, aligned for a terminal or as Markdown."""
    table = [list(COLUMNS), *(cells(row) for row in report["rows"])]
    blocks = [as_markdown(table) if markdown else aligned(table),
              f"ms; {report['side']} px, {report['threads']} threads; answers against the first on "
              f"{report['crops']}; {report['environment']['cpu']}"]
    blocks += [gpu_text(row) for row in report["rows"] if row["gpu"]]
    blocks += [peak_text(row) for row in report["rows"] if "peak" in row]
    for batch, found in report.get("operators", {}).items():
        from feredge.benchmarks.bench.operators import operator_table

        blocks.append(f"\nbatch {batch}\n\n{operator_table(found)}")
    if "clip" in report:
        blocks += [clip_text(name, report["clip"][name]) for name in ("offline", "live")]
    return "\n".join(blocks)


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """Return rows of text as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return rows of text in columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *(
        cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]) for row in table)


def gpu_text(row: dict[str, Any]) -> str:
    """Return a GPU's split of one row."""
    parts = ", ".join(f"{name} {value:.3f}" for name, value in row["gpu"].items())
    return f"{row['engine']}, batch {row['batch']}: {parts} ms"


def peak_text(row: dict[str, Any]) -> str:
    """Return what share of the device one row is."""
    peak = row["peak"]
    return (f"{row['engine']}, batch {row['batch']}: {peak['macs'] / 1e9:.2f} G "
            f"multiply-accumulates, {peak['compute_share']:.0%} of the {row['precision'].upper()} "
            f"peak; {peak['bytes'] / 1e6:.0f} MB, {peak['bandwidth_share']:.0%} of the bandwidth")


def clip_text(name: str, run: dict[str, Any]) -> str:
    """Return a run over the clip as one line."""
    stages = ", ".join(f"{stage} {times['median_s'] * 1e3:.1f} ({times['p95_s'] * 1e3:.1f})"
                       for stage, times in run["stages"].items())
    return (f"{name}: {run['frames']} frames ({run['dropped']} dropped), {run['faces']} faces, "
            f"{run['frames_per_s']:.1f} frames/s; median (95th percentile) ms: {stages}")
