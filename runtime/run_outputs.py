"""Open the outputs of a run from its options."""

from __future__ import annotations

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


def open_outputs(
    outputs: Outputs, options: RunOptions, source: Source, spec: ModelSpec
) -> None:
    """Open every output of the options; those that are open are in `outputs` if one fails.

    Raises:
        OutputError: one cannot be written.
    """
    wanted, plain, labels = options.outputs, outputs.plain, spec.labels
    if wanted.jsonl:
        plain.append(JsonLines(wanted.jsonl, labels))
    if wanted.csv:
        plain.append(Csv(wanted.csv, labels))
    if wanted.summary:
        plain.append(TrackSummary(wanted.summary, labels))
    if wanted.text:
        plain.append(Text(labels))
    if wanted.progress:
        plain.append(Progress(source.expected_frames))
    if options.publish is not None:
        plain.append(Publisher(options.publish, source, labels))
    if options.history is not None:
        model = f"{spec.model} {spec.variant} {spec.precision}"
        plain.append(HistoryRecorder(options.history, source, labels, model))
    if wanted.output:
        outputs.annotated.append(open_annotated(str(wanted.output), source))
    if wanted.display:
        outputs.annotated.append(Window(source))
