"""Tables of the runtime: the summary, overhead, memory, size, tracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feredge.benchmarks.bench.text import markdown_table
from feredge.benchmarks.experiments.tables.quality import percent

Results = dict[str, dict[str, Any]]


def summary(results: Results) -> str:
    """Return the six rows of the main README."""
    return markdown_table([["what", "measured"], *map(list, summary_rows(results))])


def summary_rows(results: Results) -> Iterator[tuple[str, str]]:
    """Yield what was measured, and the numbers."""
    fp32, int8 = results["accuracy"]["engines"][:2]
    yield (f"accuracy on {results['accuracy']['faces']:,} faces of FER+ validation, FP32 and INT8",
           f"{percent(fp32['scores']['accuracy'])}, {percent(int8['scores']['accuracy'])}; "
           f"top-1 agreement {int8['against_first']['agreement']:.2%}")
    first, second = results["latency-bundled"]["rows"][:2]
    yield ("one face, FP32 and INT8 in onnxruntime",
           f"{first['median_s'] * 1e3:.1f} ms, {second['median_s'] * 1e3:.1f} ms: speed-up "
           f"{second['speed_up']['value']:.2f} ({second['speed_up']['low']:.2f} to "
           f"{second['speed_up']['high']:.2f})")
    pipeline, photos = results["pipeline"], results["photos"]
    yield ("`fer-run` on a 640x480 clip with one face",
           f"{pipeline['seconds']['fer-run'] * 1e3:.1f} ms per frame")
    yield (f"{photos['pictures']} labeled photos",
           f"a face in {photos['faces']}, the right label for "
           f"{photos['engines'][0]['scores']['right']}")
    yield ("resident memory after 1,000 and 10,000 frames",
           f"{pipeline['early_mb']:.0f} MB, {pipeline['late_mb']:.0f} MB")
    yield "`pip install .`", f"{results['install']['megabytes']:.0f} MB"


def runtime(results: Results) -> str:
    """Return the table of the runtime's costs."""
    rows = [*speed_rows(results["pipeline"]), *live_rows(results["reconnect"], results["page"]),
            *size_rows(results["photos"], results["install"])]
    return markdown_table([["what", "measured"], *map(list, rows)])


def speed_rows(pipeline: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield time per frame and memory."""
    seconds = pipeline["seconds"]
    yield (f"`fer-run --jsonl`, 640x480 clip with one face, `{pipeline['engine']}`",
           f"{seconds['fer-run'] * 1e3:.1f} ms per frame")
    for name, value in list(seconds.items())[1:]:
        yield f"... compared with {name}", f"{seconds['fer-run'] / value:.2f} times"
    yield ("resident memory after 1,000 and 10,000 frames",
           f"{pipeline['early_mb']:.0f} MB, {pipeline['late_mb']:.0f} MB")


def live_rows(reconnect: dict[str, Any], page: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what concerns cameras and the live page."""
    settled, last = page["soak"][1], page["soak"][-1]  # the first row is warm-up
    yield ("from the return of an RTSP camera to its first frame, median (95th percentile) of "
           f"{len(reconnect['seconds'])} restarts",
           f"{reconnect['median_s']:.2f} ({reconnect['p95_s']:.2f}) s")
    yield (f"age of a frame in a viewer of the live page, {page['frames_per_s']} frames/s, median "
           "(95th percentile)", f"{page['age_median_ms']:.0f} ({page['age_p95_ms']:.0f}) ms")
    yield ("long run with live page and viewer, a camera that disconnects ten times: after "
           f"{settled['frames']:,} and {last['frames']:,} frames",
           "; ".join(f"{row['resident_mb']:.0f} MB, {row['threads']} threads, {row['files']} files"
                     for row in (settled, last)))


def size_rows(photos: dict[str, Any], install: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield photos, start-up and installed size."""
    yield "photos with a detected face", f"{photos['faces']} of {photos['pictures']}"
    yield ("photos with the right label",
           f"{photos['engines'][0]['scores']['right']} of {photos['pictures']}")
    yield ("`import feredge.runtime`, `fer-run --help`: whole processes",
           f"{install['import_s']:.2f} s, {install['help_s']:.2f} s")
    if "picture_s" in install:
        yield ("`fer-run --source PICTURE` with the bundled network: CPU time of the whole "
               "process, peak of memory",
               f"{install['picture_cpu_s']:.2f} s, {install['picture_resident_mb']:.0f} MB")
    yield ("`pip install .`", f"{install['megabytes']:.0f} MB: {', '.join(install['packages'])}")


def tracks(results: Results) -> str:
    """Return the table of gains and costs of tracks."""
    rows = [smoothing_row(results["tracks"]), interval_row(results["tracks"]["detect_every"]),
            *reuse_rows(results["tracks"]["reuse"])]
    return markdown_table([["option", "gain", "cost"], *map(list, rows)])


def smoothing_row(measured: dict[str, Any]) -> tuple[str, str, str]:
    """Return the row of smoothing."""
    flips, delay = measured["flips"], measured["added_delay_s"]
    return ("smoothing", f"{flips['shown']['flips_per_minute']:.1f} label changes per track and "
            f"minute instead of {flips['raw']['flips_per_minute']:.0f}",
            f"a true change is shown {delay['median']:.2f} s later (90 %: {delay['p90']:.2f} s, at "
            f"most {delay['largest']:.2f} s)")


def interval_row(fewer: dict[str, Any]) -> tuple[str, str, str]:
    """Return the row of detection in some frames only."""
    return (f"`--detect-every {fewer['every']}`", f"{fewer['ratio']:.1f} times the frames/s",
            f"{fewer['boxes_met']:.1%} of the boxes (IoU 0.5), {fewer['same_label']:.1%} of their "
            "labels")


def reuse_rows(reuse: dict[str, list[dict[str, float]]]) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of reused predictions."""
    for clip, name in (("still", "faces that keep still"), ("jittered", "faces that jitter")):
        row = next(row for row in reuse[clip] if row["threshold"] == 4)
        yield (f"`--reuse 4`, {name}", f"{row['saved']:.0%} fewer classifications",
               f"{row['same_shown_label']:.1%} of the labels are the same")


def publish(results: Results) -> str:
    """Return what an outage of the broker loses, and what publishing costs a frame."""
    found, frame_ms = results["publish"], results["pipeline"]["seconds"]["fer-run"] * 1e3
    costs = (found["write_with_event_ms"], found["write_without_event_ms"])
    return markdown_table([
        ["what", "measured"],
        [f"broker killed for {found['outage_s']:.0f} s, publisher killed and restarted meanwhile",
         f"of {found['written']:,} events {found['lost']} lost, {found['doubled']} doubled, "
         f"{found['out_of_order']} out of order; all delivered {found['caught_up_s']:.0f} s after "
         "its return"],
        ["share of a frame's time, with and without an event, no broker",
         ", ".join(f"{cost / frame_ms:.1%}" for cost in costs)],
    ])


def robustness(results: Results) -> str:
    """Return the table of generated inputs and what they found."""
    measured = results["robustness"]
    found = measured["found"]
    rows = [["inputs", "tests", *found, "longest call", "peak of memory"],
            [f"{measured['examples']:,}", str(measured["tests"]), *map(str, found.values()),
             f"{measured['longest_s']:.1f} s", f"{measured['peak_mb']:,.0f} MB"]]
    lines = [f"- {problem['kind']}: `{problem['test']}`: {problem['error']}"
             for problem in measured["problems"]]
    return "\n".join([markdown_table(rows), *([""] if lines else []), *lines])
