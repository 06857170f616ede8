"""Write the README's numbers from the results files, so that none is typed by hand.

Usage: `python -m feredge.benchmarks.readme RESULTS_FOLDER README [--check]`

What stands between `<!-- NAME -->` and `<!-- /NAME -->` in the README is replaced by what the
function of that name here makes of the results; `--check` only tells whether it would change.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Results = dict[str, dict[str, Any]]


def read_results(folder: Path) -> Results:
    """Return every results file by its name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def accuracy(results: Results) -> str:
    """Return the table of accuracies."""
    rows = ["| network | accuracy | same label as FP32 |", "| --- | --- | --- |"]
    for row in results["accuracy"]["engines"]:
        rows.append(f"| `{row['engine']}` | {row['accuracy']:.2%} | "
                    f"{row['same_label_as_first']:.2%} |")
    recalls = results["accuracy"]["engines"]
    rows += ["", f"Recall by class, {recalls[0]['faces']:,} faces:", "",
             "| class | " + " | ".join(f"`{row['engine']}`" for row in recalls) + " |",
             "| --- |" + " --- |" * len(recalls)]
    for label in recalls[0]["recall"]:
        rows.append(f"| {label} | "
                    + " | ".join(f"{row['recall'][label]:.1%}" for row in recalls) + " |")
    return "\n".join(rows)


def latency(results: Results) -> str:
    """Return the table of latencies, every network and batch."""
    rows = ["| network | side | batch | median | against its FP32 |",
            "| --- | --- | --- | --- | --- |"]
    for name in ("latency-full-width", "latency-bundled"):
        for row in results[name]["rows"]:
            network = name.removeprefix("latency-").replace("-", " ")
            rows.append(f"| {network}, `{row['engine']}` | {results[name]['side']} px | "
                        f"{row['batch']} | {row['median_s'] * 1e3:.1f} ms | "
                        f"{row['speed_up']:.2f} x |")
    return "\n".join(rows)


def runtime(results: Results) -> str:
    """Return what the runtime costs: overhead, memory, installation, faces found."""
    pipeline, install, photos = (results[name] for name in ("pipeline", "install", "photos"))
    return "\n".join([
        "| what | measured |",
        "| --- | --- |",
        f"| `fer-run --jsonl`, 640x480 clip with one face, `{pipeline['engine']}` | "
        f"{pipeline['piped_s'] * 1e3:.1f} ms a frame |",
        "| ... against both networks in bare onnxruntime sessions, its own settings | "
        f"{pipeline['over_bare']:.2f} times |",
        "| ... against our detector and engine, which share the cores better | "
        f"{pipeline['over_alone']:.2f} times |",
        f"| resident memory after 1,000 and 10,000 frames | {pipeline['early_mb']:.0f} MB, "
        f"{pipeline['late_mb']:.0f} MB |",
        f"| photos in which a face is found | {photos['found']} of {photos['photos']} |",
        f"| photos labelled as people did | {photos['right']} of {photos['photos']} |",
        f"| `import feredge.runtime`, `fer-run --help`: whole processes | "
        f"{install['import_s']:.2f} s, {install['help_s']:.2f} s |",
        f"| `pip install .` | {install['megabytes']:.0f} MB: {', '.join(install['packages'])} |",
    ])


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


SECTIONS: dict[str, Callable[[Results], str]] = {
    section.__name__: section for section in (accuracy, latency, runtime, plans, machine)
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
