"""What tracks bring and cost: steadier labels, their delay, fewer searches, and reused answers.

Usage: `python -m feredge.benchmarks.experiments.tracks --engine ENGINE --faces FOLDER
[--detector PATH]
[--json FILE]`

FOLDER holds labelled face crops, a folder a class. The clips show four of them at once in 640x480.
They move about slowly and jitter from frame to frame in place, angle, size and brightness, with
noise, so that a network's answers about a face are a little different each time. In the still clip
they only have the noise of a camera.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from feredge.benchmarks.eval.records import write_results
from feredge.benchmarks.experiments.jitter import PLACES, STILL, draw_faces, write_clip
from feredge.runtime import Engine, Faces, open_detector, open_engine
from feredge.runtime.detect.base import Detector
from feredge.runtime.machine import cores
from feredge.runtime.outputs.text import JsonLines
from feredge.runtime.pipeline import Pipeline, PipelineOptions
from feredge.runtime.results import Array, FrameResult
from feredge.runtime.sources import open_source
from feredge.runtime.track.options import TrackOptions
from feredge.runtime.track.reuse import PredictionReuse
from feredge.runtime.track.smoothing import Smoother
from feredge.runtime.track.tracker import overlaps

STEADY_CLIPS, STEADY_S = 12, 10.0  # 48 faces, 8 minutes
CHANGE_CLIPS, CHANGE_S = 24, 3.0  # 96 changes, each in the middle of six seconds
SURE = 0.8  # a change counts where the network gives most frames before, and after, one label
DETECT_EVERY, ROUNDS = 3, 9
UNSMOOTHED = TrackOptions(smooth=False)
SKIPPED = TrackOptions(smooth=False, detect_every=DETECT_EVERY)
THRESHOLDS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)


@dataclass
class Kept:
    """An output that keeps every frame's faces and time."""

    faces: list[Faces]
    times_s: list[float]
    reuse: PredictionReuse | None = None

    def write(self, answer: FrameResult) -> None:
        """Keep one."""
        self.faces.append(answer.faces)
        self.times_s.append(answer.frame.time_s)

    def close(self) -> None:
        """Nothing is held open."""

    def smoothed(self) -> Kept:
        """Return the same with the labels that fer-run shows."""
        smoother = Smoother()
        return Kept([smoother.update(faces, time_s)
                     for faces, time_s in zip(self.faces, self.times_s)], self.times_s)

    def tracks(self) -> dict[int, Array]:
        """Return time and label of every frame of every track, each `(n, 2)`."""
        rows: dict[int, list[tuple[float, int]]] = {}
        for faces, time_s in zip(self.faces, self.times_s):
            for track_id, label_id in zip(faces.track_ids.tolist(), faces.label_ids.tolist()):
                if track_id >= 0:
                    rows.setdefault(track_id, []).append((time_s, label_id))
        return {track_id: np.array(track) for track_id, track in rows.items()}


def kept(
    clip: Path, detector: Detector, engine: Engine, tracks: TrackOptions = UNSMOOTHED
) -> Kept:
    """Run a clip with tracks but without smoothing, and keep the faces of every frame."""
    source, output = open_source(str(clip)), Kept([], [])
    options = PipelineOptions(concurrent_frames=1 if tracks.reuse else cores(), tracks=tracks)
    pipeline = Pipeline(source, detector, engine, [output], options=options)
    pipeline.run()
    source.close()
    for state in pipeline.tracks.values():
        output.reuse = state.reuse
    return output


def flips(runs: Iterable[Kept]) -> dict[str, float]:
    """Return how often a track's label changes a minute, where nobody's expression does."""
    tracks = [track for run in runs for track in run.tracks().values()]
    minutes = sum(float(track[-1, 0] - track[0, 0]) for track in tracks) / 60
    count = sum(int(np.count_nonzero(np.diff(track[:, 1]))) for track in tracks)
    return {"tracks": len(tracks), "minutes": minutes, "flips": count,
            "flips_per_minute": count / minutes}


def added_delays_s(run: Kept) -> list[float]:
    """Return for each true change how much later than the first raw label the new one is shown."""
    shown, delays = run.smoothed().tracks(), []
    for track_id, track in run.tracks().items():
        after = track[:, 0] >= CHANGE_S
        if after.all() or not after.any():
            continue
        old, old_share = commonest(track[~after, 1])
        new, new_share = commonest(track[after, 1])
        if old != new and min(old_share, new_share) >= SURE:
            first, steady = (rows[after & (rows[:, 1] == new)][:1, 0]
                             for rows in (track, shown[track_id]))
            delays.append(float(steady[0] - first[0]) if len(steady) else np.inf)
    return delays


def commonest(labels: Array) -> tuple[int, float]:
    """Return the label that comes most often, and its share."""
    ((label, count),) = Counter(labels.astype(int).tolist()).most_common(1)
    return label, count / len(labels)


def same_boxes(every: Kept, fewer: Kept) -> tuple[int, int, int]:
    """Return the boxes of every-frame detection, those met with an IoU of 0.5, and same labels."""
    boxes = met = labels = 0
    for expected, got in zip(every.smoothed().faces, fewer.smoothed().faces):
        ious = overlaps(expected.boxes_xyxy, got.boxes_xyxy)
        boxes += len(expected)
        if len(got):
            good = ious.max(axis=1) >= 0.5
            met += int(good.sum())
            labels += int((expected.label_ids == got.label_ids[ious.argmax(axis=1)])[good].sum())
    return boxes, met, labels


def frames_per_s(clip: Path, detector: Detector, engine: Engine, every: int, lines: Path) -> float:
    """Return the rate of fer-run --jsonl on a clip, as it really works on it."""
    source, output = open_source(str(clip)), JsonLines(str(lines), engine.spec.labels)
    start_s = time.perf_counter()
    options = PipelineOptions(concurrent_frames=cores(), tracks=TrackOptions(detect_every=every))
    pipeline = Pipeline(source, detector, engine, [output], options=options)
    pipeline.run()
    seconds = time.perf_counter() - start_s
    output.close()
    source.close()
    return pipeline.frames / seconds


def detect_every(clips: Sequence[Path], runs: Sequence[Kept], detector: Detector, engine: Engine,
                 lines: Path) -> dict[str, Any]:
    """Compare a search of every third frame with one of each, in rate, boxes and labels."""
    counts = np.array([same_boxes(run, kept(clip, detector, engine, SKIPPED))
                       for clip, run in zip(clips, runs)]).sum(axis=0)
    rounds = [[frames_per_s(clips[0], detector, engine, every, lines)
               for every in (1, DETECT_EVERY)] for _ in range(ROUNDS)]
    rates = np.median(rounds, axis=0)
    return {"every": DETECT_EVERY, "rounds_frames_per_s": rounds,
            "frames_per_s": rates.tolist(),
            "ratio": float(np.median([fewer / each for each, fewer in rounds])),
            "boxes": int(counts[0]), "boxes_met": float(counts[1] / counts[0]),
            "same_label": float(counts[2] / counts[1])}


def reuse(clip: Path, detector: Detector, engine: Engine, threshold: float) -> dict[str, float]:
    """Return the share of classifications saved, and of labels that are those without reuse."""
    plain = kept(clip, detector, engine)
    got = kept(clip, detector, engine, replace(UNSMOOTHED, reuse=threshold))
    assert got.reuse is not None, "the run was given a threshold"
    pairs = list(zip(plain.faces, got.faces))
    raw = [first.label_ids == second.label_ids for first, second in pairs]
    shown = [first.label_ids == second.label_ids
             for first, second in zip(plain.smoothed().faces, got.smoothed().faces)]
    change = [np.abs(first.probabilities - second.probabilities).max(axis=1)
              for first, second in pairs]
    return {"threshold": threshold, "saved": got.reuse.reused / got.reuse.total,
            "same_raw_label": float(np.concatenate(raw).mean()),
            "same_shown_label": float(np.concatenate(shown).mean()),
            "mean_change": float(np.concatenate(change).mean())}


def measured(folder: Path, faces: Path, detector: Detector, engine: Engine) -> dict[str, Any]:
    """Write the clips and measure everything."""
    single, pairs = draw_faces(faces, 1), draw_faces(faces, 2)
    steady = [folder / f"steady{k}.mp4" for k in range(STEADY_CLIPS)]
    changing = [folder / f"change{k}.mp4" for k in range(CHANGE_CLIPS)]
    for k, clip in enumerate(steady):
        write_clip(clip, [next(single) for _ in PLACES], STEADY_S, k)
    for k, clip in enumerate(changing):
        write_clip(clip, [next(pairs) for _ in PLACES], 2 * CHANGE_S, k)
    write_clip(folder / "still.mp4", [next(single) for _ in PLACES], STEADY_S, 0, STILL)
    runs = [kept(clip, detector, engine) for clip in steady]
    delays = [delay for clip in changing for delay in added_delays_s(kept(clip, detector, engine))]
    return {
        "flips": {"raw": flips(runs), "shown": flips(run.smoothed() for run in runs)},
        "added_delay_s": {"changes": len(delays), "samples": delays,
                          "median": float(np.median(delays)),
                          "p90": float(np.percentile(delays, 90)), "largest": max(delays)},
        "detect_every": detect_every(steady, runs, detector, engine, folder / "lines.jsonl"),
        "reuse": {name: [reuse(clip, detector, engine, threshold) for threshold in THRESHOLDS]
                  for name, clip in (("jittered", steady[0]), ("still", folder / "still.mp4"))},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", required=True, type=Path)
    parser.add_argument("--faces", required=True, type=Path)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        detector = stack.enter_context(open_detector(options.detector, threads=1))
        engine = stack.enter_context(open_engine(options.engine, threads=1))
        results = measured(Path(folder), options.faces, detector, engine)
    print_results(results)
    write_results(options.json, {"engine": options.engine.name, "faces": options.faces.name,
                                 **results})
    return 0


def print_results(results: dict[str, Any]) -> None:
    """Print what matters of it."""
    raw, shown = (results["flips"][name]["flips_per_minute"] for name in ("raw", "shown"))
    delay, fewer = results["added_delay_s"], results["detect_every"]
    print(f"label flips a track-minute: {raw:.1f}, smoothed {shown:.2f}")
    print(f"delay added to {delay['changes']} changes, s: median {delay['median']:.2f}, "
          f"90 % {delay['p90']:.2f}, largest {delay['largest']:.2f}")
    print(f"--detect-every {fewer['every']}: {fewer['ratio']:.2f} times the frames/s, "
          f"{fewer['boxes_met']:.1%} of the boxes, {fewer['same_label']:.1%} of the labels")
    for name, rows in results["reuse"].items():
        for row in rows:
            print(f"--reuse {row['threshold']:g}, {name}: {row['saved']:.1%} saved, "
                  f"{row['same_shown_label']:.1%} of the labels shown")


if __name__ == "__main__":
    sys.exit(main())
