"""What publishing loses and costs: a broker that is away, a process that is killed meanwhile.

Usage: `python -m feredge.benchmarks.experiments.outage [--outage 600] [--json FILE]`

A mosquitto of its own is killed for the time of the outage, while a process publishes ten events a
second and is killed in the middle of it; a second one goes on from the same spool. It needs the
package mosquitto.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.benchmarks.experiments.mosquitto import Mosquitto, Subscriber
from feredge.benchmarks.experiments.processes import free_port
from feredge.runtime.command import positive_int
from feredge.runtime.publish import Publisher, PublishOptions
from feredge.runtime.results import Faces, Frame, FrameResult, TrackEvent

EVENTS_PER_S = 10
BEFORE_S = 3
CAUGHT_UP_S = 300
FRAMES = 2000
DEVICE = "outage"
LABELS = ("neutral", "happiness")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this experiment."""
    parser.add_argument("--outage", type=positive_int, default=600, metavar="S",
                        help="how long the broker is away (600)")
    parser.add_argument("--publisher", nargs=2, metavar=("PORT", "SPOOL"), help=argparse.SUPPRESS)


def source() -> Any:
    """Return a source as the publisher sees it."""
    return SimpleNamespace(name="door", parts=[SimpleNamespace(name="door")], health=list)


def result(index: int, with_event: bool = True) -> FrameResult:
    """Return a frame with one face, and a track that enters."""
    probabilities = np.array([[0.9, 0.1]], np.float32)
    faces = Faces.from_detections(np.array([[0, 0, 9, 9]]), np.zeros((1, 5, 2)), np.ones(1))
    events = [TrackEvent("enter", index + 1)] if with_event else []
    frame = Frame(index, np.zeros((2, 2, 3), np.uint8), "door", index / 25)
    return FrameResult(frame, faces=faces.with_probabilities(probabilities), events=events)


def publish(port: int, spool: Path | None) -> Publisher:
    """Open a publisher to the broker of this machine."""
    url = f"mqtt://127.0.0.1:{port}"
    return Publisher(PublishOptions(url, device=DEVICE, spool=spool), source(), LABELS)


def publish_for_ever(port: int, spool: Path) -> None:
    """Publish events until the process is killed; print each after it is written."""
    publisher = publish(port, spool)
    for index in range(10_000_000):
        publisher.write(result(index))
        print(publisher.run, index, flush=True)
        time.sleep(1 / EVENTS_PER_S)


def run_publisher(port: int, spool: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start a process that publishes, and notes what it wrote in a file."""
    command = [sys.executable, "-m", "feredge.benchmarks.experiments.outage", "--publisher",
               str(port), str(spool)]
    with output.open("ab") as file:
        return subprocess.Popen(command, stdout=file)


def written_events(output: Path) -> list[tuple[str, int]]:
    """Return `(run, seq)` of every event that was written to the spool."""
    lines = [line.split() for line in output.read_text().splitlines()]
    return [(words[0], int(words[1])) for words in lines if len(words) == 2]


def arrived_events(subscriber: Subscriber) -> list[tuple[str, int]]:
    """Return `(run, seq)` of every event that has arrived, in order."""
    return [(record["run"], record["seq"]) for record in subscriber.of("/events")]


def measure_outage(folder: Path, outage_s: float) -> Results:
    """Take the broker away, kill the publisher in the middle, and count what arrives."""
    broker, spool, output = Mosquitto(folder), folder / "spool.db", folder / "written.txt"
    broker.start()
    subscriber = Subscriber(broker.port)
    publisher = run_publisher(broker.port, spool, output)
    time.sleep(BEFORE_S)
    broker.kill()
    time.sleep(outage_s / 2)
    publisher.kill()
    publisher.wait()
    publisher = run_publisher(broker.port, spool, output)
    time.sleep(outage_s / 2)
    broker.start()
    back_s = time.monotonic()
    caught_up_s = wait_until_caught_up(subscriber, output, back_s)
    time.sleep(BEFORE_S)
    publisher.kill()
    publisher.wait()
    time.sleep(3)
    subscriber.close()
    broker.kill()
    return {"outage_s": outage_s, "caught_up_s": round(caught_up_s, 1),
            **count_events(written_events(output), arrived_events(subscriber))}


def wait_until_caught_up(subscriber: Subscriber, output: Path, since_s: float) -> float:
    """Wait until all that was written until now has arrived; returns the seconds that it took."""
    due = set(written_events(output))
    while not due <= set(arrived_events(subscriber)) and time.monotonic() - since_s < CAUGHT_UP_S:
        time.sleep(0.1)
    return time.monotonic() - since_s


def count_events(
    written: list[tuple[str, int]], arrived: list[tuple[str, int]]
) -> dict[str, int]:
    """Return how many events were written, and of them lost, doubled, and out of order.

    The last second before the final kill does not count: it may be on its way.
    """
    counted = written[:-EVENTS_PER_S]
    times = Counter(arrived)
    first = [event for event in dict.fromkeys(arrived) if event in set(counted)]
    in_order = [event for event in counted if event in times]
    return {"written": len(counted), "lost": sum(event not in times for event in counted),
            "doubled": sum(times[event] > 1 for event in counted),
            "out_of_order": sum(a != b for a, b in zip(first, in_order))}


def measure_cost() -> Results:
    """Time `write` with a broker that does not answer, for frames with and without an event."""
    publisher = publish(free_port(), None)
    times: dict[str, list[float]] = {"with_event": [], "without_event": []}
    for index in range(FRAMES):
        for name, with_event in (("with_event", True), ("without_event", False)):
            one = result(2 * index + with_event, with_event)
            start_s = time.perf_counter()
            publisher.write(one)
            times[name].append((time.perf_counter() - start_s) * 1e3)
    publisher.close()
    return {f"write_{name}_ms": round(statistics.median(values), 4)
            for name, values in times.items()}


def measure(options: argparse.Namespace) -> Results:
    """Run the outage, and time what publishing costs a frame."""
    if options.publisher:
        publish_for_ever(int(options.publisher[0]), Path(options.publisher[1]))
    with tempfile.TemporaryDirectory() as folder:
        return {**measure_outage(Path(folder), options.outage), **measure_cost()}


def describe(results: Results) -> str:
    """Return the results as text."""
    return (f"broker away for {results['outage_s']:.0f} s, publisher killed meanwhile: of "
            f"{results['written']} events {results['lost']} lost, {results['doubled']} doubled, "
            f"{results['out_of_order']} out of order, caught up after {results['caught_up_s']} s\n"
            f"write: {results['write_with_event_ms']} ms with an event, "
            f"{results['write_without_event_ms']} ms without")


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
