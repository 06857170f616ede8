"""The confidence model is fitted to labeled scenes, and an export carries it."""

import json
from dataclasses import replace

import pytest

from feredge.export.confidence_file import confidence_of, identity_of, read_confidence
from feredge.export.fer_export import main as fer_export
from feredge.export.fit_confidence import main
from feredge.export.models.registry import WEIGHTS, network_named
from feredge.runtime import open_engine
from feredge.runtime.errors import CalibrationError
from feredge.runtime.spec import CONFIDENCE_FEATURES

BUNDLED = WEIGHTS / "manet-ferplus.confidence.json"


@pytest.fixture(scope="module")
def spec(exported):
    with open_engine(exported / "manet.int8.onnx") as engine:
        return engine.spec


def test_an_export_carries_the_bundled_model(spec):
    bundled = read_confidence(BUNDLED)
    assert bundled.belongs_to == identity_of(spec) and spec.confidence == bundled.spec
    assert set(bundled.weights) == set(CONFIDENCE_FEATURES)
    assert bundled.facts["accuracy_at_coverage"]["confidence"]["70%"] >= 0.86
    for name, value in {**bundled.weights, "bias": bundled.bias}.items():
        low, high = bundled.intervals[name]
        assert low <= value <= high


def test_the_bundled_model_is_of_these_probabilities_and_this_detector(spec):
    network = network_named("manet")
    assert confidence_of(network, spec, None, True) == spec.confidence
    assert confidence_of(network, spec, None, False) is None
    tempered = replace(spec, quality={"confidence": {"temperature": 0.9}})
    shifted = replace(spec, crop=replace(spec.crop, shift_y=0.1))
    for other in (tempered, shifted):
        assert confidence_of(network, other, None, True) is None
        with pytest.raises(CalibrationError, match="fitted with another network"):
            confidence_of(network, other, str(BUNDLED), True)


@pytest.mark.parametrize("text", [
    "{", "[]", "{}", "null",
    json.dumps({**json.loads(BUNDLED.read_text()), "weights": {"age": 1.0}}),
    json.dumps({**json.loads(BUNDLED.read_text()), "bias": 1e9}),
    json.dumps({**json.loads(BUNDLED.read_text()), "format": 2}),
])
def test_a_file_that_is_no_confidence_model_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"a\.json is no confidence model"):
        read_confidence(tmp_path / "a.json")


def test_a_model_fitted_to_scenes_is_carried_by_an_export(photos, exported, tmp_path, capsys):
    path, output = tmp_path / "own.json", tmp_path / "out"
    assert main(["--csv", str(photos / "labels.csv"), "--output", str(path),
                 "--engine", str(exported / "manet.onnx")]) == 0
    assert "--min-confidence 0.6: " in capsys.readouterr().out
    own = read_confidence(path)
    assert own.facts["faces"] == 212 and own.weights["log_odds"] > 0.5
    assert fer_export(["--model", "manet", "--target", "onnx", "--confidence", str(path),
                       "--output", str(output)]) == 0
    with open_engine(output / "manet.onnx") as engine:
        assert engine.spec.confidence == own.spec


def test_too_few_scenes_are_refused_and_nothing_is_written(photos, tmp_path, capsys):
    rows = (photos / "labels.csv").read_text().splitlines()[:13]
    (tmp_path / "few.csv").write_text("\n".join(rows))
    assert main(["--csv", str(tmp_path / "few.csv"), "--data", str(photos),
                 "--output", str(tmp_path / "own.json")]) == 2
    assert "12 labeled faces" in capsys.readouterr().err
    assert not (tmp_path / "own.json").exists()
    assert main(["--output", str(tmp_path / "own.json")]) == 2
    assert "no scenes: pass --csv FILE" in capsys.readouterr().err
