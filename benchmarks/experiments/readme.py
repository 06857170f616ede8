"""Fill the tables of README files from the results files, so that no number is typed by hand.

Usage: `python -m feredge.benchmarks.experiments.readme RESULTS README [README ...] [--check]`

The text between `<!-- NAME -->` and `<!-- /NAME -->` is replaced by the section of that name, in
every README that has these marks. `--check` changes nothing; its exit code is 1 if a file would
change.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from feredge.benchmarks.experiments.tables import batch, detection, quality, runtime, speed

Results = dict[str, dict[str, Any]]

SECTIONS: dict[str, Callable[[Results], str]] = {
    section.__name__: section
    for section in (
        quality.accuracy, quality.quantizers, quality.peers,
        speed.latency, speed.networks, speed.plans, speed.kernel, speed.machine,
        runtime.summary, runtime.runtime, runtime.robustness, runtime.tracks, runtime.publish,
        detection.detectors, detection.min_scores, detection.small_faces, batch.batch,
    )
}


def read_results(folder: Path) -> Results:
    """Return every results file by its name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def fill(text: str, results: Results) -> str:
    """Return a README with every section that it has marks for, made from the results."""
    for name, section in SECTIONS.items():
        marks = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
        if marks.search(text):
            block = f"<!-- {name} -->\n{section(results)}\n<!-- /{name} -->"
            text = marks.sub(block.replace("\\", r"\\"), text)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the files, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("readmes", type=Path, nargs="+")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    results = read_results(options.results)
    texts = {readme: readme.read_text() for readme in options.readmes}
    changed = {readme: new for readme, text in texts.items()
               if (new := fill(text, results)) != text}
    if options.check:
        return int(bool(changed))
    for readme, text in changed.items():
        readme.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
