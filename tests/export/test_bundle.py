"""The bundled INT8 network is of the bundled checkpoint and ranges, and is what its card states."""

import hashlib
import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from feredge.calibration.ranges import Ranges
from feredge.export.bundle import FILE, FOLDER, MIN_AGREEMENT, check_agreement
from feredge.export.models.registry import WEIGHTS, network_named
from feredge.runtime import open_engine
from feredge.runtime.errors import ExportError
from feredge.runtime.spec import METADATA_KEY, ModelSpec

CHECKPOINT = WEIGHTS / network_named("manet").checkpoint


@pytest.fixture(scope="module")
def graph():
    return onnx.load(FOLDER / FILE)


@pytest.fixture(scope="module")
def spec(graph):
    (document,) = (item.value for item in graph.metadata_props if item.key == METADATA_KEY)
    return ModelSpec.from_json(document)


@pytest.fixture(scope="module")
def ranges():
    return Ranges.from_json(CHECKPOINT.with_suffix(".ranges.json").read_text())


def test_it_is_of_the_bundled_checkpoint_and_ranges(spec, ranges):
    digest = hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    assert spec.source.checkpoint_sha256 == digest == ranges.checkpoint_sha256
    assert (spec.precision, spec.target.cpu, spec.target.weight_bits) == ("int8", "avx2", 7)
    assert spec.calibration == {"method": ranges.method, "faces": ranges.faces,
                                "sha256": ranges.faces_sha256}


def test_every_scale_of_an_activation_follows_from_the_bundled_ranges(graph, ranges):
    bounds = [methods[ranges.method] for methods in ranges.values.values()]
    expected = np.array([high / 255 if low >= 0 else max(-low, high) / 127
                         for low, high in bounds])
    scales = [float(numpy_helper.to_array(tensor)) for tensor in graph.graph.initializer
              if tensor.name.endswith("_scale") and not tensor.dims]
    assert len(scales) > 50
    for scale in scales:
        assert np.abs(expected / scale - 1).min() < 1e-5


def test_its_card_states_its_hash_and_an_agreement_that_holds():
    card = (FOLDER / "manet.int8.md").read_text()
    assert hashlib.sha256((FOLDER / FILE).read_bytes()).hexdigest() in card
    agreement = float(re.search(r"agreement with FP32 ([\d.]+)%", card)[1])
    assert agreement >= 100 * MIN_AGREEMENT


def test_it_is_the_default_engine_and_classifies():
    with open_engine() as engine:
        assert engine.spec.precision == "int8" and engine.spec.model == "manet"
        found = engine.infer(np.zeros((1, 3, 96, 96), np.float32))
        assert found.shape == (1, 8) and np.isclose(found.sum(), 1, atol=1e-4)


@pytest.mark.parametrize("top1, fails", [(0.9949, True), (0.9951, False)])
def test_less_agreement_is_not_written(top1, fails):
    report = {"int8": {"validation": {"costs": {
        "tensorrt": {"agreement": {"top1": 1.0}},
        "cpu-7bit-rounded": {"agreement": {"top1": top1}}}}}}
    if fails:
        with pytest.raises(ExportError, match=r"99\.49% on the validation faces, expected 99\.5%"):
            check_agreement(report)
    else:
        check_agreement(report)
