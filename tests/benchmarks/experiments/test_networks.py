"""The comparison of networks, on the tests' own small one."""

import json
import sys
from pathlib import Path

import pytest

from feredge.benchmarks.experiments import networks
from feredge.export.models import registry
from feredge.export.models.registry import known_networks, network_named

EXAMPLE = Path(__file__).parents[2] / "export"


@pytest.fixture
def tiny(monkeypatch):
    """The tests' network alone in the registry, forgotten after the test."""
    monkeypatch.setattr(registry, "NETWORKS", known_networks())
    monkeypatch.syspath_prepend(str(EXAMPLE))
    network = network_named("tiny_network:tiny")
    monkeypatch.setattr(networks, "known_networks", lambda: {"tiny": network})
    for module in ("prepare", "write"):
        monkeypatch.setattr(f"feredge.export.{module}.network_named", lambda name: network)
    yield
    sys.modules.pop("tiny_network")


def test_size_latency_and_agreement_stand_side_by_side(tiny, faces_48px, tmp_path, capsys):
    assert networks.EXPERIMENT.main([str(faces_48px), "--count", "20", "--rounds", "2",
                          "--json", str(tmp_path / "networks.json")]) == 0
    results = json.loads((tmp_path / "networks.json").read_text())
    (row,) = results["rows"]
    assert row["network"] == "tiny" and row["parameters"] == 5154
    assert row["macs"] == 9 * (3 * 16 * 16**2 + 16 * 32 * 8**2) + 32 * 2
    for precision in ("fp32", "int8"):
        assert len(row[f"{precision}_seconds"]) == 2 and row[f"{precision}_median_s"] > 0
    assert row["int8"]["agreement"]["faces"] == 20 and row["int8_tensorrt"]["int8_share"] == 1
    assert results["environment"]["cores"] and "tiny: 0.01 M parameters" in capsys.readouterr().out
