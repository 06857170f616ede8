"""A report with every part that an export can have, of the real dataclasses on seeded answers."""

from dataclasses import asdict

import numpy as np

from feredge.calibration.quality.accuracy import LabeledQuality, accuracy, cost
from feredge.calibration.quality.gate import GateResult, Trial
from feredge.calibration.quality.limits import Limits, check_graph
from feredge.calibration.quality.sensitivity import LayerSensitivity
from feredge.runtime.machine import describe_machine

GRAPHS = ("tensorrt", "cpu-7bit")
FACES = 400


def answers(labels, seed, noise):
    """Return `(faces, classes)` probabilities near the truth, and that; 0 noise is FP32."""
    truth = np.random.default_rng(7).integers(0, len(labels), FACES)
    logits = np.random.default_rng(7).normal(size=(FACES, len(labels))) * 1.5
    logits[np.arange(FACES), truth] += 3
    logits += np.random.default_rng(seed).normal(size=logits.shape) * noise
    odds = np.exp(logits)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), truth


def labeled(labels):
    expected, truth = answers(labels, 0, 0)
    got = {name: answers(labels, seed, 0.3)[0] for seed, name in enumerate(GRAPHS)}
    return LabeledQuality(
        accuracy(expected, truth, labels),
        {name: accuracy(answer, truth, labels) for name, answer in got.items()},
        {name: cost(expected, answer, truth, labels) for name, answer in got.items()},
    )


def layers(count=60):
    rng = np.random.default_rng(3)
    costs = np.sort(rng.lognormal(-8, 1.5, count))[::-1]
    return [LayerSensitivity(f"layer{1 + k % 4}.{k // 4}.conv{1 + k % 2}", float(kl),
                             float(kl * rng.uniform(-0.5, 1)), 1 / count)
            for k, kl in enumerate(costs)]


def outcome(labels, noises=(0.4, 0.2, 0.02)):
    """Return what the gate would say, with one more layer in float for each noise."""
    expected, truth = answers(labels, 0, 0)
    limits = Limits(min_agreement=0.98)
    trials = []
    for count, noise in enumerate(noises):
        got = {name: answers(labels, seed, noise)[0] for seed, name in enumerate(GRAPHS)}
        trials.append(Trial(count, {name: check_graph(expected, answer, truth, labels, limits)
                                    for name, answer in got.items()}))
    holds = trials[-1].holds
    return GateResult(holds, limits, tuple(layers()[:count]) if holds else (), tuple(trials))


def sweep():
    return [{"method": method, "faces": 256, "top1": dict.fromkeys(GRAPHS, top1),
             "mean_kl": dict.fromkeys(GRAPHS, kl), "accuracy": dict.fromkeys(GRAPHS, 0.82)}
            for method, top1, kl in (("max", 0.981, 3e-4), ("percentile-99.99", 0.988, 1.9e-4),
                                     ("mse", 0.984, 2e-4))]


def with_all_parts(report):
    """Return a real report of an export with everything added that takes long to measure."""
    labels = report["model"]["labels"]
    int8 = {**report["int8"], "sweep": sweep(), "gate": asdict(outcome(labels)),
            "sensitivity": [asdict(row) for row in layers()],
            "validation": asdict(labeled(labels))}
    fp16 = {"largest_activation": 812.5, "largest_difference": 4.1e-4, "on": "seeded noise"}
    plan = {"file": "manet.plan", "kind": "tensorrt", "version": "10.9.0.34", "precision": "int8",
            "compute_capabilities": ["8.7"], "profile": [1, 8, 16], "bytes": 13_400_000,
            "build_seconds": 61.2, "int8_share": 0.991, "int8_share_from": "engine inspector"}
    return {**report, "int8": int8, "fp16": fp16, "plan": plan, "environment": describe_machine()}
