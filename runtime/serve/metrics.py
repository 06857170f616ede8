"""The numbers of the pipeline in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

TOTALS = {"frames": "Frames processed.", "dropped": "Frames replaced by a newer one.",
          "faces": "Faces classified."}


class Numbers:
    """A collector of the state of the live page: totals, stages and sources at one time."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state

    def collect(self) -> Iterator[Metric]:
        """Yield every metric in base units, as Prometheus recommends: seconds."""
        totals = self.state["totals"]
        for name, text in TOTALS.items():
            yield CounterMetricFamily(f"feredge_{name}", text, value=totals[name])
        yield GaugeMetricFamily("feredge_faces_in_view", "Faces in the newest frames.",
                                value=len(self.state["faces"]))
        yield GaugeMetricFamily("feredge_viewers", "Viewers of pictures.",
                                value=self.state["viewers"])
        stages = GaugeMetricFamily("feredge_stage_seconds", "Median time of a stage.",
                                   labels=["stage"])
        for stage, times in self.state["stages"].items():
            stages.add_metric([stage], times["median_ms"] / 1e3)
        yield stages
        yield from self.sources()

    def sources(self) -> Iterator[Metric]:
        """Yield the metrics of each live source."""
        up = GaugeMetricFamily("feredge_source_up", "1 while it delivers frames.",
                               labels=["source"])
        silent = GaugeMetricFamily("feredge_source_silent_seconds", "Time since its last frame.",
                                   labels=["source"])
        again = CounterMetricFamily("feredge_source_reconnects", "Reconnects after a loss.",
                                    labels=["source"])
        age = GaugeMetricFamily("feredge_frame_age_seconds", "Age of the newest frame.",
                                labels=["source"])
        for source in self.state["sources"]:
            if source["age_ms"] is not None:
                age.add_metric([source["source"]], source["age_ms"] / 1e3)
            up.add_metric([source["source"]], float(source["state"] == "delivering"))
            silent.add_metric([source["source"]], source["silent_s"])
            again.add_metric([source["source"]], source["reconnects"])
        yield from (up, silent, again, age)


def exposition(state: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the text of all metrics, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Numbers(state))
    return generate_latest(registry), CONTENT_TYPE_LATEST
