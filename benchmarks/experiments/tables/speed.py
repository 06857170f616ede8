"""Tables of speed: latency, networks, plans, the crop kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from feredge.benchmarks.bench.text import markdown_table

Results = dict[str, dict[str, Any]]

# Counted by hand in the kernel's machine code for sm_87, BGR to FP16 (nvcc 13.0, nvdisasm): the
# loop over four bilinear samples has 349 instructions, the rest 342 for four pixels.
INSTRUCTIONS_PER_SAMPLE, INSTRUCTIONS_PER_PIXEL = 87, 86
LANES = 128  # per multiprocessor, compute capability 8.6 to 8.9: one instruction per clock each


@dataclass(frozen=True)
class Device:
    """A GPU by its data sheet: bytes per second, multiprocessors, clock."""

    name: str
    bandwidth: float
    multiprocessors: int
    clock_hz: float

    @property
    def title(self) -> str:
        """The name with the bandwidth."""
        return f"{self.name}, {self.bandwidth / 1e9:.0f} GB/s"

    @property
    def issue_rate(self) -> float:
        """Instructions per second of all lanes."""
        return LANES * self.multiprocessors * self.clock_hz


DEVICES = (
    Device("Orin Nano", 102e9, 8, 1.02e9),
    Device("Orin AGX", 205e9, 16, 1.3e9),
    Device("RTX 4070", 504e9, 46, 2.475e9),
)
PLAN_TITLES = {"manet": "bundled, 96 px", "full": "full width, 224 px",
               "YuNet": "YuNet", "detector": "bundled detector"}


def latency(results: Results) -> str:
    """Return the table of latencies: every network, runtime and batch."""
    rows = [["network", "side", "batch", "median (p95)", "noise",
             "speed-up over its FP32 (95 % interval)", "top-1 agreement with FP32"]]
    for name in ("latency-full-width", "latency-bundled"):
        rows += latency_rows(name.removeprefix("latency-").replace("-", " "), results[name])
    return markdown_table(rows)


def latency_rows(network: str, report: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the rows of one report."""
    for row in report["rows"]:
        ratio, recorded = row["speed_up"], row["answers"]["recorded"]
        agreement = row["answers"]["same_label"] if recorded is None else recorded["top1"]
        yield [f"{network}, `{row['engine']}`", f"{report['side']} px", str(row["batch"]),
               f"{row['median_s'] * 1e3:.1f} ({row['p95_s'] * 1e3:.1f}) ms", f"{row['noise']:.0%}",
               f"{ratio['value']:.2f} x ({ratio['low']:.2f} to {ratio['high']:.2f})",
               f"{agreement:.1%}"]


def networks(results: Results) -> str:
    """Return the table of the registry's networks, with random weights."""
    rows = [["network", "side", "parameters", "multiply-adds", "FP32", "INT8", "speed-up",
             "top-1 agreement, CPU", "top-1 agreement, TensorRT"]]
    for row in results["networks"]["rows"]:
        fp32_ms, int8_ms = (row[f"{name}_median_s"] * 1e3 for name in ("fp32", "int8"))
        agreements = (row[name]["agreement"]["top1"] for name in ("int8", "int8_tensorrt"))
        rows.append([f"`{row['network']}`", f"{row['side']} px", f"{row['parameters'] / 1e6:.1f} M",
                     f"{row['macs'] / 1e9:.2f} G", f"{fp32_ms:.0f} ms", f"{int8_ms:.0f} ms",
                     f"{fp32_ms / int8_ms:.2f}", *(f"{share:.1%}" for share in agreements)])
    return markdown_table(rows)


def plans(results: Results) -> str:
    """Return the table of plans that TensorRT-RTX built."""
    built = results["plans"]["rows"]
    forms = list(dict.fromkeys(row["form"] for row in built))
    rows = [["network", *forms]]
    for network in dict.fromkeys(row["network"] for row in built):
        cells = {row["form"]: f"{row['build_seconds']:.1f} s, {row['bytes'] / 1e6:.1f} MB"
                 for row in built if row["network"] == network}
        rows.append([PLAN_TITLES.get(network, network), *(cells.get(form, "") for form in forms)])
    first = built[0]
    return "\n".join([markdown_table(rows), "", f"{first['kind']} {first['version']}, for compute "
                      f"capability {', '.join(first['compute_capabilities'])}, 1 to "
                      f"{first['profile'][2]} faces."])


def kernel(results: Results) -> str:
    """Return the time of the crop kernel by its instructions and bytes: computed, not measured."""
    rows = [["crop", "bytes", *(device.title for device in DEVICES)]]
    for side, samples in ((96, 1), (96, 2), (224, 1), (224, 2)):
        moved = 3 * (samples * side) ** 2 + 6 * side**2
        issued = (INSTRUCTIONS_PER_SAMPLE * samples**2 + INSTRUCTIONS_PER_PIXEL) * side**2
        rows.append([f"{side} px, K = {samples}", f"{moved / 1e3:.0f} kB", *(
            f"{max(moved / device.bandwidth, issued / device.issue_rate) * 1e6:.2g} us"
            for device in DEVICES)])
    return markdown_table(rows)


def machine(results: Results) -> str:
    """Return the machine and the packages of the measurements."""
    environment = results["latency-full-width"]["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    python = f", Python {environment['python']}" if "python" in environment else ""
    return (f"{environment['cpu']}, {environment['cores']} cores; {environment['system']}{python}; "
            f"{packages}.")
