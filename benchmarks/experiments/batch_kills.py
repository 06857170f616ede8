"""Batch runs on a Ray cluster whose actors, nodes and drivers end at random times.

Two Ray nodes run on the loopback interface. A driver works on an output; at random times an actor,
the second node, or the driver receives SIGKILL, and is started again. Every finished output is
compared with one of an undisturbed run, row by row.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feredge.runtime.errors import require

KINDS = ("actor", "node", "driver")
NODE: dict[str, Any] = {
    "num_cpus": 1, "object_store_memory": 100 << 20, "node_ip_address": "127.0.0.1",
}
# Ray's switch for systems with firewalls: nodes and drivers stay on the loopback interface.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
MOST_OUTPUTS, NODE_STARTS = 50, 5
LONGEST_S = 900.0  # of one output: a run that hangs is a failure


@dataclass
class KillCounts:
    """What was killed, and what became of the rows."""

    kills: Counter[str] = field(default_factory=Counter)
    outputs: int = 0
    rows: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    timeline: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {**vars(self), "kills": dict(self.kills)}


class TwoNodes:
    """A Ray cluster of two nodes on this machine; the second one can be killed and replaced."""

    def __init__(self) -> None:
        os.environ.update(LOOPBACK)
        utilities = require("ray.cluster_utils", "batch")
        self.cluster: Any = utilities.Cluster(initialize_head=True, head_node_args=NODE)
        self.second = self.cluster.add_node(**NODE)

    @property
    def address(self) -> str:
        """The address for drivers."""
        return str(self.cluster.address)

    def replace_second(self) -> None:
        """End the second node at once, and start another."""
        self.cluster.remove_node(self.second, allow_graceful=False)
        for attempt in range(NODE_STARTS):
            try:
                self.second = self.cluster.add_node(**NODE)
                return
            except Exception:  # Ray's own time limit for a node's start, on a busy machine
                if attempt == NODE_STARTS - 1:
                    raise

    def actors(self) -> list[Any]:
        """Return the processes of the workers on both nodes."""
        psutil = require("psutil", "batch")
        raylets = [node.all_processes["raylet"][0].process.pid
                   for node in (self.cluster.head_node, self.second)]
        children = [child for pid in raylets for child in psutil.Process(pid).children(True)]
        return [child for child in children if "Worker" in command_of(child)]

    def close(self) -> None:
        """End both nodes."""
        self.cluster.shutdown()


def command_of(process: Any) -> str:
    """Return the name that Ray gives to a process; empty if it has ended."""
    try:
        return " ".join(process.cmdline())
    except require("psutil", "batch").Error:
        return ""


class DisturbedRun:
    """One driver on one output, started again whenever it is killed."""

    def __init__(self, command: Sequence[str], nodes: TwoNodes, seed: int) -> None:
        self.command, self.nodes, self.random = command, nodes, random.Random(seed)
        self.start_s = time.time()
        self.kills: list[tuple[float, str]] = []
        self.driver = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start a driver."""
        return subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def kill(self, kind: str) -> None:
        """Kill something and start it again; Ray restarts actors."""
        self.kills.append((round(time.time() - self.start_s, 2), kind))
        if kind == "node":
            self.nodes.replace_second()
        elif kind == "driver":
            self.driver.kill()
            self.driver.communicate()
            self.driver = self.start()
        else:
            self.random.choice(self.nodes.actors()).kill()

    def may_kill(self, kind: str, pause_s: float) -> bool:
        """Wait a random time, for an actor after there is one; False if the run ended."""
        while kind == "actor" and not self.nodes.actors():
            if self.ended_within(0.2):
                return False
        return not self.ended_within(pause_s) and (kind != "actor" or bool(self.nodes.actors()))

    def finish(self, kills: Sequence[str], pause_s: tuple[float, float]) -> list[str]:
        """Run to the end and return the kills that happened before it.

        Raises:
            RuntimeError: the run failed or took too long.
        """
        end_s = time.monotonic() + LONGEST_S
        for kind in kills:
            if self.may_kill(kind, self.random.uniform(*pause_s)):
                self.kill(kind)
        if not self.ended_within(end_s - time.monotonic()) or self.driver.returncode:
            self.driver.kill()
            raise RuntimeError(f"the run failed: {self.driver.communicate()[1].decode()[-1000:]}")
        return [kind for _, kind in self.kills]

    def timeline(self, output: Path) -> dict[str, Any]:
        """Return when rows were written and what was killed when, in seconds from the start."""
        pq = require("pyarrow.parquet", "batch")
        files = [(round(path.stat().st_mtime - self.start_s, 2), pq.read_metadata(path).num_rows)
                 for path in output.glob("*.parquet")]
        return {"files": sorted(files), "kills": self.kills}

    def ended_within(self, seconds: float) -> bool:
        """Wait for the driver's end."""
        try:
            self.driver.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            return False
        return True


def read_output(output: Path) -> dict[tuple[str, int | None], list[dict[str, Any]]]:
    """Return the rows of an output by unit and frame."""
    ds = require("pyarrow.dataset", "batch")
    rows: dict[tuple[str, int | None], list[dict[str, Any]]] = {}
    for row in ds.dataset(str(output)).to_table().to_pylist():
        rows.setdefault((row["unit"], row["frame"]), []).append(row)
    return rows


def compare(output: Path, expected: Path, counts: KillCounts) -> None:
    """Count lost, doubled and different rows of an output."""
    found, wanted = read_output(output), read_output(expected)
    counts.outputs += 1
    counts.rows += sum(map(len, found.values()))
    counts.lost += len(wanted.keys() - found.keys())
    counts.doubled += sum(len(rows) - 1 for rows in found.values())
    counts.different += sum(rows[0] != wanted[key][0] for key, rows in found.items()
                            if key in wanted) + len(found.keys() - wanted.keys())


@dataclass(frozen=True)
class KillPlan:
    """What is disturbed, how often, and how fast."""

    sources: Sequence[str]
    engine: str
    folder: Path
    kills: Sequence[str]
    pause_s: tuple[float, float] = (1.0, 8.0)
    seed: int = 0

    def command(self, output: Path, ray: str) -> list[str]:
        """Return the driver's command."""
        sources = [word for source in self.sources for word in ("--source", source)]
        return [sys.executable, "-m", "feredge.runtime.fer_batch", *sources, "--engine",
                self.engine, "--output", str(output), "--ray", ray, "--segment", "2",
                "--chunk", "16", "--workers", "2"]


def measure_kills(plan: KillPlan) -> KillCounts:
    """Kill until all kills have happened, over as many outputs as that takes."""
    expected, counts = plan.folder / "expected", KillCounts()
    subprocess.run(plan.command(expected, "none"), check=True, stderr=subprocess.DEVNULL)
    nodes, left = TwoNodes(), list(plan.kills)
    try:
        while left and counts.outputs < MOST_OUTPUTS:
            output = plan.folder / f"output-{counts.outputs}"
            run = DisturbedRun(plan.command(output, nodes.address), nodes,
                               plan.seed + counts.outputs)
            done = run.finish(left, plan.pause_s)
            for kind in done:
                left.remove(kind)
            counts.kills.update(done)
            counts.timeline = counts.timeline or run.timeline(output)
            compare(output, expected, counts)
    finally:
        nodes.close()
    return counts


def random_kills(count: int, seed: int) -> list[str]:
    """Return kinds of kills in a random order, each at least once."""
    choice = random.Random(seed)
    kinds = [*KINDS, *(choice.choice(KINDS) for _ in range(count - len(KINDS)))]
    choice.shuffle(kinds)
    return kinds
