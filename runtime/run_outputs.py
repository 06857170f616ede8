"""Open the outputs of a run from its options."""

from __future__ import annotations

from glob import glob

from feredge.runtime.environment import has_screen
from feredge.runtime.errors import UsageError
from feredge.runtime.files import check_outputs_apart
from feredge.runtime.history import HistoryRecorder
from feredge.runtime.options import RunOptions
from feredge.runtime.outputs.annotated import open_annotated
from feredge.runtime.outputs.closing import Outputs
from feredge.runtime.outputs.terminal import Progress, Text, Window
from feredge.runtime.outputs.text import Csv, JsonLines
from feredge.runtime.outputs.track_summary import TrackSummary
from feredge.runtime.publish import Publisher
from feredge.runtime.sources.base import Source
from feredge.runtime.spec import ModelSpec


def check_outputs(options: RunOptions) -> None:
    """Check the outputs before anything is opened.

    Raises:
        UsageError: an output would replace an input or another output, or there is no screen.
    """
    if options.outputs.display and not has_screen():
        raise UsageError("`display` needs a screen, and no window can be opened here: leave it "
                         "out, and use `output` or `jsonl`")
    read = [("source", file) for where in map(str, options.sources)
            for file in glob(where) or [where]]
    models = {"engine": options.engine.path, "detector": options.detector.path}
    for name, path in models.items():
        read += [] if path is None else [(name, str(path)), (name, f"{path}.json")]
    history = {} if options.history is None else {"history": options.history.path}
    check_outputs_apart(options.outputs.files() | history, read)


def open_outputs(
    outputs: Outputs, options: RunOptions, source: Source, spec: ModelSpec
) -> None:
    """Open every output of the options; those that are open are in `outputs` if one fails.

    Raises:
        OutputError: one cannot be written.
    """
    wanted, plain, labels = options.outputs, outputs.plain, spec.labels
    if wanted.output:
        outputs.annotated.append(open_annotated(str(wanted.output), source))
    if wanted.display:
        outputs.annotated.append(Window(source))
    if wanted.text:
        plain.append(Text(labels))
    if wanted.progress:
        plain.append(Progress(source.expected_frames))
    if options.publish is not None:
        plain.append(Publisher(options.publish, source, labels))
    if options.history is not None:
        model = f"{spec.model} {spec.variant} {spec.precision}"
        plain.append(HistoryRecorder(options.history, source, labels, model))
    # Opened last, as they replace files of earlier runs; closed first, as a broker may be slow.
    if wanted.jsonl:
        plain.insert(0, JsonLines(wanted.jsonl, labels))
    if wanted.csv:
        plain.insert(0, Csv(wanted.csv, labels, wanted.landmarks))
    if wanted.summary:
        plain.insert(0, TrackSummary(wanted.summary, labels))
