"""One run of fer-eval: read the labeled pictures, evaluate every network, write the results."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from feredge.benchmarks.eval.datasets import DATASETS
from feredge.benchmarks.eval.evaluation import Evaluation, evaluate_engines
from feredge.benchmarks.eval.options import STDOUT, EvalOptions
from feredge.benchmarks.eval.plot import check_plot_path, write_plot
from feredge.benchmarks.eval.records import environment, write_results
from feredge.calibration.labeled import LabeledPictures, pictures_in_folders, pictures_of_csv
from feredge.runtime.detect import open_detector
from feredge.runtime.engines import open_engine
from feredge.runtime.errors import SourceError, require
from feredge.runtime.files import check_folder


def evaluate(options: EvalOptions) -> Evaluation:
    """Evaluate networks on labeled pictures; write JSON and plot where the options ask for them.

    Every picture is read once, and every network classifies the same faces.

    Args:
        options: networks, pictures and outputs. `json` as `-` is left to the caller.

    Returns:
        The scores of every network, with 95 % intervals, and its comparison with the first.

    Raises:
        FeredgeError: an option, a file or the data cannot be used; checked before the evaluation.
    """
    check_options(options)
    data = read_data(options)
    with ExitStack() as stack:
        engines = {name: stack.enter_context(open_engine(path))
                   for name, path in name_engines(options.engines).items()}
        detector = (stack.enter_context(open_detector(options.detector)) if is_scenes(options)
                    else None)
        evaluation = evaluate_engines(data, engines, detector, options.group_by)
    if options.dataset:
        evaluation = replace(evaluation, dataset=options.dataset,
                             published=DATASETS[options.dataset].published)
    if options.json != STDOUT:
        write_results(options.json, asdict(evaluation))
    if options.plot:
        write_plot(options.plot, evaluation)
    return evaluation


def check_options(options: EvalOptions) -> None:
    """Refuse options that would fail after the evaluation, or that contradict each other.

    Raises:
        FeredgeError: an option cannot be used.
    """
    for package in ("sklearn", "tqdm", *(["matplotlib"] if options.plot else [])):
        require(package, "bench")
    check_data(options)
    if options.detector.path and not is_scenes(options):
        raise SourceError("--detector detects faces in scenes: pass --detect with it, or neither")
    for path in (options.json, options.plot):
        if path and path != STDOUT:
            check_folder(path)
    if options.plot:
        check_plot_path(options.plot)


def check_data(options: EvalOptions) -> None:
    """Check that the options name pictures, in one way only.

    Raises:
        SourceError: they name none, or two kinds.
    """
    if bool(options.dataset) != bool(options.root):
        raise SourceError("--dataset and --root belong together: the name of a public data set, "
                          "and its folder")
    if options.dataset and (options.data or options.csv):
        raise SourceError("--dataset reads the pictures of --root: leave out --data and --csv")
    if not (options.dataset or options.data or options.csv):
        raise SourceError("no pictures: pass --data DIR with one folder per class, or --csv FILE, "
                          "or --dataset NAME")


def is_scenes(options: EvalOptions) -> bool:
    """Return whether the pictures are scenes, by the options or by the data set."""
    scenes = options.dataset is not None and DATASETS[options.dataset].is_scenes
    return options.detect or scenes


def read_data(options: EvalOptions) -> LabeledPictures:
    """Return the labeled pictures, with classes renamed as in `labels`."""
    if options.dataset and options.root:
        data = DATASETS[options.dataset].read(options.root)
    elif options.csv:
        data = pictures_of_csv(options.csv, options.data)
    else:
        assert options.data is not None
        data = pictures_in_folders(options.data)
    return data.rename(options.labels) if options.labels else data


def name_engines(paths: Sequence[Path]) -> dict[str, Path]:
    """Name engines by their files, or by their paths where two files share a name."""
    same = len({path.name for path in paths}) < len(paths)
    return {str(path) if same else path.name: path for path in paths}


def results_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as it is written to JSON, with the machine it ran on."""
    return {**asdict(evaluation), "environment": environment()}
