"""Write the README's numbers from the results files, so that none is typed by hand.

Usage: `python -m feredge.benchmarks.experiments.readme RESULTS_FOLDER README [--check]`

What stands between `<!-- NAME -->` and `<!-- /NAME -->` in the README is replaced by what the
function of that name here makes of the results; `--check` only tells whether it would change.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Results = dict[str, dict[str, Any]]

# Read in the kernel's machine code for sm_87, BGR to FP16 (nvcc 13.0, cuobjdump, by hand): the loop
# over four bilinear samples has 351 instructions, all else 298 for four pixels.
INSTRUCTIONS_A_SAMPLE, INSTRUCTIONS_A_PIXEL = 88, 75
LANES = 128  # of a multiprocessor, compute capability 8.6 to 8.9: an instruction each a clock


@dataclass(frozen=True)
class Device:
    """A GPU as its data sheet has it: bytes a second, multiprocessors, clock."""

    name: str
    bandwidth: float
    multiprocessors: int
    clock_hz: float

    @property
    def title(self) -> str:
        """Return the name with the bandwidth."""
        return f"{self.name}, {self.bandwidth / 1e9:.0f} GB/s"

    @property
    def issue_rate(self) -> float:
        """Return the instructions a second, of all lanes."""
        return LANES * self.multiprocessors * self.clock_hz


DEVICES = (
    Device("Orin Nano", 102e9, 8, 1.02e9),
    Device("Orin AGX", 205e9, 16, 1.3e9),
    Device("RTX 4070", 504e9, 46, 2.475e9),
)


def read_results(folder: Path) -> Results:
    """Return every results file by its name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def accuracy(results: Results) -> str:
    """Return the tables of accuracy, each network against the first, and of recall by class."""
    evaluation = results["accuracy"]
    engines = evaluation["engines"]
    rows = ["| network | accuracy | balanced | calibration error | same label | flips that lose, "
            "win | McNemar |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in engines:
        scores, against = row["scores"], row["against_first"]
        cells = [f"`{row['engine']}`", percent(scores["accuracy"]),
                 percent(scores["balanced_accuracy"]),
                 percent(scores["expected_calibration_error"])]
        cells += ["", "", ""] if against is None else [
            f"{against['agreement']:.2%}",
            f"{against['right_to_wrong']}, {against['wrong_to_right']}",
            f"p = {against['mcnemar_p']:.2g}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    rows += ["", f"Recall by class, {evaluation['faces']:,} faces:", "",
             "| class | faces | " + " | ".join(f"`{row['engine']}`" for row in engines) + " |",
             "| --- | --- |" + " --- |" * len(engines)]
    for label, facts in engines[0]["scores"]["classes"].items():
        recalls = [row["scores"]["classes"][label]["recall"] for row in engines]
        if facts["support"]:
            rows.append(f"| {label} | {facts['support']} | "
                        + " | ".join(f"{recall:.1%}" for recall in recalls) + " |")
    return "\n".join(rows)


def percent(interval: dict[str, float]) -> str:
    """Return a share with its 95 % interval."""
    return f"{interval['value']:.1%} [{interval['low']:.1%}, {interval['high']:.1%}]"


def latency(results: Results) -> str:
    """Return the table of latencies, every network, runtime and batch."""
    rows = ["| network | side | batch | median (p95) | noise | against its FP32 (95 % interval) | "
            "same label as FP32 |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for name in ("latency-full-width", "latency-bundled"):
        network = name.removeprefix("latency-").replace("-", " ")
        for row in results[name]["rows"]:
            ratio, recorded = row["speed_up"], row["answers"]["recorded"]
            same = row["answers"]["same_label"] if recorded is None else recorded["top1"]
            rows.append(f"| {network}, `{row['engine']}` | {results[name]['side']} px | "
                        f"{row['batch']} | {row['median_s'] * 1e3:.1f} "
                        f"({row['p95_s'] * 1e3:.1f}) ms | {row['noise']:.0%} | "
                        f"{ratio['value']:.2f} x ({ratio['low']:.2f} to {ratio['high']:.2f}) | "
                        f"{same:.1%} |")
    return "\n".join(rows)


def runtime(results: Results) -> str:
    """Return what the runtime costs: overhead, memory, installation, faces found."""
    pipeline, install, photos, reconnect, page = (
        results[name] for name in ("pipeline", "install", "photos", "reconnect", "page"))
    settled, last = page["soak"][1], page["soak"][-1]  # the first is warm-up
    seconds = pipeline["seconds"]
    return "\n".join([
        "| what | measured |",
        "| --- | --- |",
        f"| `fer-run --jsonl`, 640x480 clip with one face, `{pipeline['engine']}` | "
        f"{seconds['fer-run'] * 1e3:.1f} ms a frame |",
        *(f"| ... against {name} | {seconds['fer-run'] / value:.2f} times |"
          for name, value in list(seconds.items())[1:]),
        f"| resident memory after 1,000 and 10,000 frames | {pipeline['early_mb']:.0f} MB, "
        f"{pipeline['late_mb']:.0f} MB |",
        f"| an RTSP camera was on again before its first frame, median (95th percentile) of "
        f"{len(reconnect['seconds'])} restarts | {reconnect['median_s']:.2f} "
        f"({reconnect['p95_s']:.2f}) s |",
        f"| age of a frame when a viewer of the live page has it, {page['frames_per_s']} frames/s, "
        f"median (95th percentile) | {page['age_median_ms']:.0f} ({page['age_p95_ms']:.0f}) ms |",
        f"| left running, live page and a viewer, a camera that goes away ten times: after "
        f"{settled['frames']:,} and {last['frames']:,} frames | "
        + ", ".join(f"{row['resident_mb']:.0f} MB, {row['threads']} threads, {row['files']} files"
                    for row in (settled, last)) + " |",
        f"| photos in which a face is found | {photos['faces']} of {photos['pictures']} |",
        f"| photos labelled as people did | {photos['engines'][0]['scores']['right']} of "
        f"{photos['pictures']} |",
        f"| `import feredge.runtime`, `fer-run --help`: whole processes | "
        f"{install['import_s']:.2f} s, {install['help_s']:.2f} s |",
        f"| `pip install .` | {install['megabytes']:.0f} MB: {', '.join(install['packages'])} |",
    ])


def quantizers(results: Results) -> str:
    """Return the table of quantisers, the nearest to FP32 first."""
    rows = ["| quantiser | settings | accuracy | same label | mean KL | seconds | size |",
            "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in sorted(results["quantizers"]["rows"], key=lambda row: row["mean_kl"]):
        seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
        rows.append(f"| {row['quantiser']} | {row.get('settings', '')} | {row['accuracy']:.2%} | "
                    f"{row['same_label_as_fp32']:.2%} | {row['mean_kl']:.5f} | {seconds} | "
                    f"{row['bytes'] / 1e6:.1f} MB |")
    return "\n".join(rows)


def networks(results: Results) -> str:
    """Return the table of the registry's networks, seeded weights."""
    rows = ["| network | side | parameters | multiply-adds | FP32 | INT8 | times as fast | same "
            "label, CPU | same label, TensorRT |", "| --- |" + " --- |" * 8]
    for row in results["networks"]["rows"]:
        fp32_ms, int8_ms = (row[f"{name}_median_s"] * 1e3 for name in ("fp32", "int8"))
        same = (row[name]["agreement"]["top1"] for name in ("int8", "int8_tensorrt"))
        cells = [f"`{row['network']}`", f"{row['side']} px", f"{row['parameters'] / 1e6:.1f} M",
                 f"{row['macs'] / 1e9:.2f} G", f"{fp32_ms:.0f} ms", f"{int8_ms:.0f} ms",
                 f"{fp32_ms / int8_ms:.2f}", *(f"{share:.1%}" for share in same)]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def peers(results: Results) -> str:
    """Return the table of other packages on the same pictures."""
    rows = ["| package | faces/s | first result | resident | installed | photos | face crops |",
            "| --- |" + " --- |" * 6]
    found = results["peers"]
    for row in found["peers"]:
        version = row["versions"].get(row["peer"].split(",")[0], "")
        cells = [f"{row['peer']} {version}".strip(), f"{row['faces_per_s']:.1f}",
                 f"{row['start_s']:.1f} s", f"{row['resident_mb']:.0f} MB",
                 f"{row['installed_mb']:,.0f} MB", percent(row["scene_accuracy"]),
                 percent(row["crop_accuracy"])]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([*rows, "", f"{found['scenes']} photos, {found['crops']:,} crops, contempt "
                      "left out, which others do not tell."])


def kernel(results: Results) -> str:
    """Return what the crop kernel takes by its instruction and byte counts: computed, not run."""
    rows = ["| crop | bytes | " + " | ".join(device.title for device in DEVICES) + " |",
            "| --- | --- |" + " --- |" * len(DEVICES)]
    for side, samples in ((96, 1), (96, 2), (224, 1), (224, 2)):
        moved = 3 * (samples * side) ** 2 + 6 * side**2
        issued = (INSTRUCTIONS_A_SAMPLE * samples**2 + INSTRUCTIONS_A_PIXEL) * side**2
        cells = [f"{max(moved / device.bandwidth, issued / device.issue_rate) * 1e6:.2g} us"
                 for device in DEVICES]
        rows.append(f"| {side} px, K = {samples} | {moved / 1e3:.0f} kB | "
                    + " | ".join(cells) + " |")
    return "\n".join(rows)


def plans(results: Results) -> str:
    """Return the table of plans that TensorRT-RTX built."""
    titles = {"manet": "bundled, 96 px", "full": "full width, 224 px", "YuNet": "face detector"}
    forms = list(dict.fromkeys(row["form"] for row in results["plans"]["rows"]))
    rows = ["| network | " + " | ".join(forms) + " |", "| --- |" + " --- |" * len(forms)]
    for network in dict.fromkeys(row["network"] for row in results["plans"]["rows"]):
        cells = {row["form"]: f"{row['build_seconds']:.1f} s, {row['bytes'] / 1e6:.1f} MB"
                 for row in results["plans"]["rows"] if row["network"] == network}
        rows.append(f"| {titles.get(network, network)} | "
                    + " | ".join(cells.get(form, "") for form in forms) + " |")
    built = results["plans"]["rows"][0]
    rows += ["", f"{built['kind']} {built['version']}, for compute capability "
                 f"{', '.join(built['compute_capabilities'])}, 1 to {built['profile'][2]} faces."]
    return "\n".join(rows)


def machine(results: Results) -> str:
    """Return what the numbers were measured on."""
    environment = results["latency-full-width"]["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return (f"{environment['cpu']}, {environment['cores']} cores; {environment['system']}; "
            f"{packages}.")


def tracks(results: Results) -> str:
    """Return the table of what tracks bring and cost."""
    measured = results["tracks"]
    flips, delay, fewer = (measured[name] for name in ("flips", "added_delay_s", "detect_every"))
    rows = ["| with | gain | cost |", "| --- | --- | --- |"]
    rows.append(
        f"| smoothing | {flips['shown']['flips_per_minute']:.1f} label flips a track-minute "
        f"instead of {flips['raw']['flips_per_minute']:.0f} | a true change is shown "
        f"{delay['median']:.2f} s later (90 %: {delay['p90']:.2f} s, at most "
        f"{delay['largest']:.2f} s) |")
    rows.append(
        f"| `--detect-every {fewer['every']}` | {fewer['ratio']:.1f} times the frames/s "
        f"| {fewer['boxes_met']:.1%} of the boxes (IoU 0.5), {fewer['same_label']:.1%} of their "
        "labels |")
    for clip, name in (("still", "faces that keep still"), ("jittered", "faces that jitter")):
        row = next(row for row in measured["reuse"][clip] if row["threshold"] == 4)
        rows.append(f"| `--reuse 4`, {name} | {row['saved']:.0%} of the classifications saved "
                    f"| {row['same_shown_label']:.1%} of the labels are the same |")
    return "\n".join(rows)


SECTIONS: dict[str, Callable[[Results], str]] = {
    section.__name__: section
    for section in (accuracy, latency, networks, peers, quantizers, runtime, tracks, kernel, plans,
                    machine)
}


def filled(text: str, results: Results) -> str:
    """Return a README with every section made anew."""
    for name, section in SECTIONS.items():
        block = f"<!-- {name} -->\n{section(results)}\n<!-- /{name} -->"
        place = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
        text = place.sub(block.replace("\\", r"\\"), text)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Fill in the README, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("readme", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    before = options.readme.read_text()
    after = filled(before, read_results(options.results))
    if options.check:
        return int(before != after)
    options.readme.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
