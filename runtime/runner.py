"""Run the pipeline from options: `run` is all that `fer-run` does, `predict` yields results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType

from feredge.runtime.detect import Detector, DetectorOptions, open_detector
from feredge.runtime.engines import Engine, open_engine
from feredge.runtime.errors import EngineError, UsageError
from feredge.runtime.logs import logger
from feredge.runtime.machine import cores
from feredge.runtime.observer import Observer
from feredge.runtime.options import RunOptions
from feredge.runtime.outputs.closing import Outputs
from feredge.runtime.page import keep_open, open_page
from feredge.runtime.pipeline import Pipeline, PipelineOptions
from feredge.runtime.results import FrameResult
from feredge.runtime.run_outputs import check_outputs, open_outputs
from feredge.runtime.sources import Source, open_source, open_sources
from feredge.runtime.spec import ModelSpec
from feredge.runtime.timing import Summary

MAX_CONCURRENT_FRAMES = 8  # each needs memory
UNKNOWN_FPS = 15.0  # assumed of a live source that does not state its rate


def run(options: RunOptions, observer: Observer | None = None) -> Summary:
    """Open everything, process the source to its end, and close everything.

    Args:
        options: sources, network, detector, tracking and outputs.
        observer: receives the events of the run.

    Returns:
        The totals; `problems` has one line per input that could not be read completely.

    Raises:
        FeredgeError: an option, a file or a device cannot be used, or the source failed. The
            outputs are complete up to that frame.
    """
    observer = observer or Observer()
    check_outputs(options)
    with ExitStack() as stack:
        source = open_sources(options.sources, options.source)
        close_later(stack, source.close)
        observer.on_source(source)
        check_tracks(options, source)
        pipeline = open_pipeline(options, source, stack, observer)
        observer.on_start(pipeline)
        try:
            with limit_silence(source, options.max_silence_s):
                pipeline.run(observer.on_frame)
        finally:
            summary = pipeline.summary()
            observer.on_end(summary)
        if options.page.serve is not None:
            keep_open(source)
    return summary


def predict(
    source: str | int | Path | Source, engine: str | Path | Engine | None = None,
    detector: str | Path | DetectorOptions | Detector | None = None,
    options: PipelineOptions | None = None,
) -> Iterator[FrameResult]:
    """Yield the result of every frame of a source.

    Args:
        source: see `open_source`, or an open source.
        engine: an ONNX file or a plan, or an open engine; None is the bundled network.
        detector: its file or its options, or an open detector; None is the bundled detector.
        options: tracking and the number of faces; None: the defaults.

    Raises:
        FeredgeError: a file or a device cannot be used, or the source failed.
    """
    with ExitStack() as stack:
        if isinstance(source, str | int | Path):
            source = open_source(source if isinstance(source, int) else str(source))
            close_later(stack, source.close)
        if not isinstance(engine, Engine):
            engine = stack.enter_context(open_engine(engine))
        if not isinstance(detector, Detector):
            detector = stack.enter_context(open_detector(detector, engine))
        yield from Pipeline(source, detector, engine, options=options).results()


def close_later(stack: ExitStack, close: Callable[[], None]) -> None:
    """Call `close` when the stack ends; if it fails after another error, only log that."""

    def leave(
        kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            close()
        except Exception as second:
            if error is None:
                raise
            logger.warning("%s", second)

    stack.push(leave)


def live_rate(source: Source) -> float | None:
    """Return the frames per second of all live sources together; None for files."""
    if not source.is_live:
        return None
    return sum(part.fps or UNKNOWN_FPS for part in source.parts)


def open_pipeline(
    options: RunOptions, source: Source, stack: ExitStack, observer: Observer
) -> Pipeline:
    """Open engine, detector and outputs; the stack closes them."""
    concurrent = concurrent_frames(options, source)
    threads = max(cores() // concurrent, 1) if concurrent > 1 else None
    engine = stack.enter_context(open_engine(
        options.engine.path, options.engine.cuda_graphs, threads, options.engine.provider))
    check_trained(engine.spec, options.engine.allow_random_weights)
    detector = stack.enter_context(open_detector(
        options.detector, engine, threads, live_rate(source)))
    outputs = stack.enter_context(Outputs())
    pipeline = Pipeline(
        source, detector, engine, outputs.plain, outputs.annotated,
        PipelineOptions(options.max_faces, concurrent, options.outputs.blur, options.tracks,
                        options.outputs.bars, options.min_confidence, options.outputs.landmarks),
    )
    if options.page.serve is not None:
        page = open_page(options.page.serve, options.page.token, pipeline,
                         not options.outputs.no_images,
                         None if options.history is None else options.history.path)
        outputs.plain.append(page)
    open_outputs(outputs, options, source, engine.spec)  # last: it truncates files
    if options.page.serve is not None:
        observer.on_page(str(page.address))
    return pipeline


def concurrent_frames(options: RunOptions, source: Source) -> int:
    """Return the number of frames to analyze concurrently.

    It is 1 for live sources, recorded ones at their own pace and several sources, on a GPU, and
    with reuse, which needs the previous frame.
    """
    on_gpu = any(str(path).endswith(".plan")
                 for path in (options.engine.path, options.detector.path))
    is_paced = options.source.is_paced or options.source.is_loop
    is_sequential = source.is_live or len(source.parts) > 1 or on_gpu or is_paced
    if is_sequential or options.tracks.reuse is not None:
        return 1
    return min(cores(), source.expected_frames or MAX_CONCURRENT_FRAMES, MAX_CONCURRENT_FRAMES)


def check_tracks(options: RunOptions, source: Source) -> None:
    """Check that options which need tracks have them.

    Raises:
        UsageError: the source is pictures, or tracking is off.
    """
    tracks = options.tracks
    if tracks.track and source.is_ordered:
        return
    needing = {"detect_every": tracks.detect_every > 1, "reuse": tracks.reuse is not None,
               "summary": options.outputs.summary is not None}
    for name in (name for name, is_set in needing.items() if is_set):
        why = "pictures have none" if tracks.track else "tracking is off"
        raise UsageError(f"`{name}` needs tracks, and {why}: leave it out, or pass a video or a "
                         "live source")


def check_trained(spec: ModelSpec, allow_random_weights: bool) -> None:
    """Refuse a network without trained weights.

    Raises:
        EngineError: its weights are random.
    """
    if spec.source.random_weights and not allow_random_weights:
        raise EngineError(f"this {spec.model} has random weights, so its labels mean nothing: "
                          "export it with `checkpoint`, or measure its speed with "
                          "`allow_random_weights`")


def limit_silence(source: Source, max_silence_s: float | None) -> AbstractContextManager[None]:
    """Return a context that ends the run when all of its live parts are silent for too long."""
    from feredge.runtime.sources.watchdog import limit_silence

    if max_silence_s is None or not all(part.is_live for part in source.parts):
        return nullcontext()
    return limit_silence(source, max_silence_s)
