"""Gains and costs of tracks: stable labels and their delay, skipped detections, reuse.

Usage: `python -m feredge.benchmarks.experiments.tracks --engine ENGINE --faces FOLDER
[--detector PATH] [--json FILE]`

FOLDER holds labeled face crops, one folder per class. The clips show four of them in 640x480. The
faces move slowly, and change from frame to frame in place, angle, size, brightness and noise, so
that the predictions for a face differ a little from frame to frame. In the still clip there is only
the noise of a camera.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.bench.timing import alternate
from feredge.benchmarks.experiments.command import Experiment, Results, add_engine_arguments
from feredge.benchmarks.experiments.jitter import PLACES, STILL, draw_faces, write_clip
from feredge.benchmarks.experiments.track_runs import (
    CHANGE_S,
    UNSMOOTHED,
    TrackRun,
    added_delays_s,
    label_changes,
    matching_boxes,
    run_tracks,
)
from feredge.runtime.detect import Detector, DetectorOptions, open_detector
from feredge.runtime.engines import Engine, open_engine
from feredge.runtime.options import EngineOptions, RunOptions
from feredge.runtime.output_options import OutputOptions
from feredge.runtime.runner import run
from feredge.runtime.track.options import TrackOptions

STEADY_CLIPS, STEADY_S = 12, 10.0  # 48 faces, 8 minutes
CHANGE_CLIPS = 24  # 96 changes, each in the middle of a clip
DETECT_EVERY, ROUNDS = 3, 9
THRESHOLDS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)


def write_clips(folder: Path, faces: Path) -> tuple[list[Path], list[Path], Path]:
    """Write the clips without changes, those with a change, and the still clip."""
    single, pairs = draw_faces(faces, 1), draw_faces(faces, 2)
    steady = [folder / f"steady{k}.mp4" for k in range(STEADY_CLIPS)]
    changing = [folder / f"change{k}.mp4" for k in range(CHANGE_CLIPS)]
    for k, clip in enumerate(steady):
        write_clip(clip, [next(single) for _ in PLACES], STEADY_S, k)
    for k, clip in enumerate(changing):
        write_clip(clip, [next(pairs) for _ in PLACES], 2 * CHANGE_S, k)
    write_clip(folder / "still.mp4", [next(single) for _ in PLACES], STEADY_S, 0, STILL)
    return steady, changing, folder / "still.mp4"


def measure_delay(clips: Sequence[Path], detector: Detector, engine: Engine) -> dict[str, Any]:
    """Return the delay that smoothing adds to true changes."""
    delays = [delay for clip in clips
              for delay in added_delays_s(run_tracks(clip, detector, engine))]
    return {"changes": len(delays), "samples": delays, "median": float(np.median(delays)),
            "p90": float(np.percentile(delays, 90)), "largest": max(delays)}


def frames_per_s(clip: Path, options: argparse.Namespace, every: int) -> float:
    """Return the frame rate of fer-run --jsonl on a clip."""
    with tempfile.TemporaryDirectory() as folder:
        return run(RunOptions(
            (str(clip),), EngineOptions(options.engine),
            detector=DetectorOptions.from_arguments(options),
            tracks=TrackOptions(detect_every=every),
            outputs=OutputOptions(jsonl=f"{folder}/lines.jsonl"),
        )).frames_per_s


def measure_rates(clip: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the frame rates with detection in every frame and in every third."""
    rates = alternate([partial(frames_per_s, clip, options, every) for every in (1, DETECT_EVERY)],
                      least_rounds=ROUNDS)
    return {"every": DETECT_EVERY, "rounds_frames_per_s": list(zip(*rates)),
            "frames_per_s": np.median(rates, axis=1).tolist(),
            "ratio": float(np.median(np.divide(rates[1], rates[0])))}


def measure_boxes(
    clips: Sequence[Path], runs: Sequence[TrackRun], detector: Detector, engine: Engine
) -> dict[str, float]:
    """Compare boxes and labels with detection in every third frame and in every frame."""
    skipping = replace(UNSMOOTHED, detect_every=DETECT_EVERY)
    boxes, matched, labels = np.sum(
        [matching_boxes(run, run_tracks(clip, detector, engine, skipping))
         for clip, run in zip(clips, runs)], axis=0)
    return {"boxes": int(boxes), "boxes_met": float(matched / boxes),
            "same_label": float(labels / matched)}


def measure_reuse(clip: Path, detector: Detector, engine: Engine) -> list[dict[str, float]]:
    """Return for each threshold the saved classifications and the labels that stay the same."""
    plain = run_tracks(clip, detector, engine)
    return [reuse_row(plain, run_tracks(clip, detector, engine,
                                        replace(UNSMOOTHED, reuse=threshold)), threshold)
            for threshold in THRESHOLDS]


def reuse_row(plain: TrackRun, reusing: TrackRun, threshold: float) -> dict[str, float]:
    """Compare a run that reuses predictions with one that does not."""
    pairs = list(zip(plain.faces, reusing.faces))
    raw = [first.label_ids == second.label_ids for first, second in pairs]
    shown = [first.label_ids == second.label_ids
             for first, second in zip(plain.smooth().faces, reusing.smooth().faces)]
    change = [np.abs(first.probabilities - second.probabilities).max(axis=1)
              for first, second in pairs]
    return {"threshold": threshold, "saved": reusing.reused,
            "same_raw_label": float(np.concatenate(raw).mean()),
            "same_shown_label": float(np.concatenate(shown).mean()),
            "mean_change": float(np.concatenate(change).mean())}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_engine_arguments(parser)
    parser.add_argument("--faces", required=True, type=Path)


def measure(options: argparse.Namespace) -> Results:
    """Write the clips and measure everything."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        detector = stack.enter_context(
            open_detector(DetectorOptions.from_arguments(options), threads=1))
        engine = stack.enter_context(open_engine(options.engine, threads=1))
        steady, changing, still = write_clips(Path(folder), options.faces)
        runs = [run_tracks(clip, detector, engine) for clip in steady]
        return {
            "engine": options.engine.name, "faces": options.faces.name,
            "flips": {"raw": label_changes(runs),
                      "shown": label_changes(run.smooth() for run in runs)},
            "added_delay_s": measure_delay(changing, detector, engine),
            "detect_every": {**measure_rates(steady[0], options),
                             **measure_boxes(steady, runs, detector, engine)},
            "reuse": {name: measure_reuse(clip, detector, engine)
                      for name, clip in (("jittered", steady[0]), ("still", still))},
        }


def describe(results: Results) -> str:
    """Return the results as text."""
    raw, shown = (results["flips"][name]["flips_per_minute"] for name in ("raw", "shown"))
    delay, fewer = results["added_delay_s"], results["detect_every"]
    lines = [f"label changes per track and minute: {raw:.1f}, smoothed {shown:.2f}",
             f"delay added to {delay['changes']} changes, s: median {delay['median']:.2f}, "
             f"90 % {delay['p90']:.2f}, largest {delay['largest']:.2f}",
             f"--detect-every {fewer['every']}: {fewer['ratio']:.2f} times the frames/s, "
             f"{fewer['boxes_met']:.1%} of the boxes, {fewer['same_label']:.1%} of the labels"]
    lines += [f"--reuse {row['threshold']:g}, {name}: {row['saved']:.1%} saved, "
              f"{row['same_shown_label']:.1%} of the shown labels"
              for name, rows in results["reuse"].items() for row in rows]
    return "\n".join(lines)


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
