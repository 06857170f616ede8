"""Runs over a clip with tracks, and what is counted in them: label changes, delays, boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feredge.runtime.detect import Detector
from feredge.runtime.engines import Engine
from feredge.runtime.machine import cores
from feredge.runtime.pipeline import Pipeline, PipelineOptions
from feredge.runtime.results import Array, Faces
from feredge.runtime.sources import open_source
from feredge.runtime.track.options import TrackOptions
from feredge.runtime.track.smoothing import Smoother
from feredge.runtime.track.tracker import overlaps

CHANGE_S = 3.0  # when the faces of a changing clip change
MIN_SHARE = 0.8  # a change counts if one label has this share of the frames before, and one after
UNSMOOTHED = TrackOptions(smooth=False)


@dataclass(frozen=True)
class TrackRun:
    """The faces and the time of every frame of a run, without smoothing.

    `reused` is the share of predictions that were reused.
    """

    faces: list[Faces]
    times_s: list[float]
    reused: float = 0.0

    def smooth(self) -> TrackRun:
        """Return the same run with the labels that fer-run shows."""
        smoother = Smoother()
        return TrackRun([smoother.update(faces, time_s)
                         for faces, time_s in zip(self.faces, self.times_s)], self.times_s)

    def tracks(self) -> dict[int, Array]:
        """Return time and label of every frame of every track, each `(n, 2)`."""
        rows: dict[int, list[tuple[float, int]]] = {}
        for faces, time_s in zip(self.faces, self.times_s):
            for track_id, label_id in zip(faces.track_ids.tolist(), faces.label_ids.tolist()):
                if track_id >= 0:
                    rows.setdefault(track_id, []).append((time_s, label_id))
        return {track_id: np.array(track) for track_id, track in rows.items()}


def run_tracks(
    clip: Path, detector: Detector, engine: Engine, tracks: TrackOptions = UNSMOOTHED
) -> TrackRun:
    """Run the pipeline on a clip, and keep the faces of every frame."""
    source = open_source(str(clip))
    options = PipelineOptions(concurrent_frames=1 if tracks.reuse else cores(), tracks=tracks)
    pipeline = Pipeline(source, detector, engine, options=options)
    results = list(pipeline.results())
    source.close()
    reuses = [state.reuse for state in pipeline.tracks.values() if state.reuse is not None]
    return TrackRun([result.faces for result in results],
                    [result.frame.time_s for result in results],
                    sum(reuse.reused / reuse.total for reuse in reuses))


def label_changes(runs: Iterable[TrackRun]) -> dict[str, float]:
    """Return how often a track's label changes per minute, on clips without true changes."""
    tracks = [track for run in runs for track in run.tracks().values()]
    minutes = sum(float(track[-1, 0] - track[0, 0]) for track in tracks) / 60
    count = sum(int(np.count_nonzero(np.diff(track[:, 1]))) for track in tracks)
    return {"tracks": len(tracks), "minutes": minutes, "flips": count,
            "flips_per_minute": count / minutes}


def added_delays_s(run: TrackRun) -> list[float]:
    """Return for each true change the time from the first raw label to the shown one."""
    shown, delays = run.smooth().tracks(), []
    for track_id, track in run.tracks().items():
        after = track[:, 0] >= CHANGE_S
        if after.all() or not after.any():
            continue
        old, old_share = most_common(track[~after, 1])
        new, new_share = most_common(track[after, 1])
        if old != new and min(old_share, new_share) >= MIN_SHARE:
            first, smooth = (rows[after & (rows[:, 1] == new)][:1, 0]
                             for rows in (track, shown[track_id]))
            delays.append(float(smooth[0] - first[0]) if len(smooth) else np.inf)
    return delays


def most_common(labels: Array) -> tuple[int, float]:
    """Return the most frequent label of `(n,)`, and its share."""
    ((label, count),) = Counter(labels.astype(int).tolist()).most_common(1)
    return label, count / len(labels)


def matching_boxes(every: TrackRun, fewer: TrackRun) -> tuple[int, int, int]:
    """Compare a run that skips detections with one that detects in every frame.

    Returns:
        The boxes of the latter, those with an IoU of 0.5 in the former, and equal labels of these.
    """
    boxes = matched = labels = 0
    for expected, got in zip(every.smooth().faces, fewer.smooth().faces):
        ious = overlaps(expected.boxes_xyxy, got.boxes_xyxy)
        boxes += len(expected)
        if len(got):
            good = ious.max(axis=1) >= 0.5
            matched += int(good.sum())
            labels += int((expected.label_ids == got.label_ids[ious.argmax(axis=1)])[good].sum())
    return boxes, matched, labels
