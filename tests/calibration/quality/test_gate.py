"""The gate: on answers made up to decide it, and on a real network broken on purpose."""

import functools
import json
from dataclasses import asdict, replace

import cv2
import numpy as np
import onnx_ir as ir
import pytest

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.graphs.qdq import cpu_graph, tensorrt_graph
from feredge.calibration.graphs.sessions import evaluation_session, session_of
from feredge.calibration.quality.agreement import conv_macs
from feredge.calibration.quality.gate import (
    GateSubject,
    failure_text,
    fewest_layers,
    gate,
    gate_text,
    layers_within_share,
)
from feredge.calibration.quality.limits import Limits, check_graph
from feredge.calibration.quality.plots import save_sensitivity_plot
from feredge.calibration.quality.sensitivity import (
    LayerSensitivity,
    sensitivities,
    sensitivity_text,
)
from feredge.calibration.ranges import Ranges
from feredge.runtime import open_engine
from feredge.runtime.errors import CalibrationError

# All that is INT8 in these tests, so that each can be tried alone in a moment.
LAYERS = ("layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv2", "layer2.1.conv2")
LOOSE = Limits(min_agreement=0.9)  # of 64 faces good ranges flip one or two
LABELS = ("neutral", "happiness", "disgust")


def sure_of(classes, confidence=0.8):
    rows = np.full((len(classes), 3), (1 - confidence) / 2)
    rows[np.arange(len(classes)), classes] = confidence
    return rows


def broken(before, after, truth, **limits):
    return check_graph(sure_of(before), sure_of(after), np.array(truth), LABELS,
                   Limits(**limits)).broken


def test_a_network_that_loses_only_its_rarest_class_is_caught():
    """Of 1,000 faces 4 are of the rarest class and INT8 loses them: 0.4 points, 99.6 % the same."""
    truth = [0] * 600 + [1] * 396 + [2] * 4
    (said,) = broken(truth, [0] * 600 + [1] * 396 + [0] * 4, truth, max_accuracy_drop=0.5,
                     min_agreement=0.98)
    assert said == "recall of disgust falls by 100.0 points on 4 faces, at most 10 allowed"


def test_one_face_of_a_rare_class_is_no_evidence():
    truth = [0] * 96 + [2] * 4
    assert broken(truth, [0] * 97 + [2] * 3, truth, min_agreement=0.98, max_class_drop=0) == ()
    assert broken(truth, [0] * 98 + [2] * 2, truth, min_agreement=0.98, max_class_drop=49)
    assert not broken(truth, [0] * 98 + [2] * 2, truth, min_agreement=0.98, max_class_drop=50)


def test_a_class_without_a_face_is_not_judged():
    assert broken([0, 1], [0, 1], [0, 1], max_accuracy_drop=0, max_class_drop=0) == ()


@pytest.mark.parametrize(
    "limits, said",
    [({"min_agreement": 0.99}, "agreement 98.00%, at least 99.00% wanted"),
     ({}, None),
     ({"max_accuracy_drop": 1.5}, "accuracy falls by 2.00 points, at most 1.5 allowed"),
     ({"max_accuracy_drop": 2}, None)],
    ids=["agreement", "98 % is the default", "accuracy", "accuracy within the limit"],
)
def test_limits_are_held_to_the_letter(limits, said):
    truth = [0] * 100
    assert broken(truth, [1] * 2 + [0] * 98, truth, **limits) == (() if said is None else (said,))


@pytest.mark.parametrize("limits", [{"min_agreement": 98}, {"max_accuracy_drop": -1},
                                    {"max_class_drop": 101}, {"min_agreement": float("nan")}])
def test_limits_that_cannot_be_meant_are_refused(limits):
    with pytest.raises(CalibrationError, match="expected"):
        Limits(**limits)


@pytest.mark.parametrize("most", [0, 1, 2, 7, 88])
def test_the_fewest_layers_are_found_in_few_tries(most):
    for needed in range(1, most + 3):
        tries = []

        def holds(count, needed=needed, tries=tries):
            tries.append(count)
            return count >= needed

        assert fewest_layers(holds, most) == (needed if needed <= most else None)
        assert len(tries) == len(set(tries)) <= 14 and 0 not in tries


def test_layers_that_would_leave_too_little_in_int8_are_passed_over():
    rows = [LayerSensitivity(name, 1, 1, share) for name, share in
            (("big", 0.2), ("small", 0.04), ("middle", 0.06), ("last", 0.7))]
    assert [row.layer for row in layers_within_share(rows, 0.89)] == ["small", "middle"]


def test_labels_are_asked_for_where_accuracy_is():
    faces = [(np.zeros((1, 3, 32, 32), np.float32), np.array([-1]))]
    for limits in (Limits(max_accuracy_drop=0.5), Limits(max_class_drop=5)):
        with pytest.raises(CalibrationError, match=r"needs labels.*folder a class"):
            gate(GateSubject(None, None, None, faces, LABELS), limits, 0.9)


def test_a_gate_without_a_face_is_refused():
    with pytest.raises(CalibrationError, match="no face"):
        gate(GateSubject(None, None, None, [], LABELS), Limits(), 0.9)


class Network:
    """The bundled network with 64 real faces, whose classes are what FP32 says."""

    def __init__(self, exported, folder):
        self.model = ir.load(exported / "manet.onnx")
        self.ranges = Ranges.from_json((exported / "manet.ranges.json").read_text())
        self.reference = session_of(self.model)
        self.macs = conv_macs(self.model, 96)
        self.float_layers = {conv.name for conv in quantized_convs(self.model.graph)} - {*LAYERS}
        with open_engine(exported / "manet.onnx") as engine:
            self.labels = engine.spec.labels
            faces = FaceFolder(folder, engine.spec.input, engine.spec.crop)
        faces.files = faces.files[::16]
        self.crops = list(faces.batches())
        self.faces = [(crops, self.reference.run(None, {"faces": crops})[0].argmax(axis=1))
                      for crops in self.crops]

    def clipped(self, *keys):
        """The ranges, far too small for some tensors."""
        method = self.ranges.method
        small = {key: {method: tuple(0.02 * bound for bound in self.ranges.values[key][method])}
                 for key in keys}
        return replace(self.ranges, values={**self.ranges.values, **small})

    def build(self, ranges, layers):
        keep_float = [*self.float_layers, *layers]
        return {"tensorrt": tensorrt_graph(self.model, ranges, keep_float),
                "cpu-7bit": cpu_graph(self.model, ranges, keep_float, 7)}

    def rank(self, ranges, name, progress=iter):
        def open_graph(layers):
            return evaluation_session(name, self.build(ranges, layers)[name])

        return sensitivities(self.reference, open_graph, LAYERS, self.macs, [self.crops[0][:8]],
                             progress)

    def gate(self, ranges, least_int8_share):
        subject = self.subject(lambda layers: self.build(ranges, layers),
                               lambda name: self.rank(ranges, name))
        return gate(subject, LOOSE, least_int8_share)

    def subject(self, build, rank):
        return GateSubject(build, rank, self.reference, self.faces, self.labels)


@pytest.fixture(scope="module")
def network(exported, shared_file):
    return Network(exported, shared_file("data/ferplus-calibration"))


def test_good_ranges_pass_at_once_and_no_layer_is_ranked(network):
    build = functools.partial(network.build, network.ranges)
    outcome = gate(network.subject(build, None), LOOSE, least_int8_share=0)
    assert outcome.holds and outcome.kept_float == () and len(outcome.trials) == 1
    assert set(outcome.trials[0].graphs) == {"tensorrt", "cpu-7bit"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "key, culprits",
    [("layer2.0.conv2:input", {"layer2.0.conv2"}),
     ("layer1.0.conv2:input", {"layer1.0.conv1", "layer1.0.conv2"})],
    ids=["read by one layer", "written by an INT8 layer, too"],
)
def test_the_layers_with_a_broken_range_go_back_to_float_and_no_others(network, key, culprits):
    outcome = network.gate(network.clipped(key), least_int8_share=0)
    assert outcome.holds and not outcome.trials[0].holds
    assert {row.layer for row in outcome.kept_float} == culprits
    assert all(row.kl_int8 > 0.01 and row.macs_share > 0.03 for row in outcome.kept_float)
    text = gate_text(outcome)
    assert "at least 90.00% wanted" in text
    assert all(f"back to float: {layer} (KL" in text for layer in culprits)
    json.dumps(asdict(outcome), allow_nan=False)


@pytest.mark.slow
def test_where_nothing_holds_the_outcome_says_so_and_what_to_do(network):
    """All four layers clip, and the least INT8 share lets two of them go."""
    ranges = network.clipped(*(f"{layer}:input" for layer in LAYERS))
    share = sum(network.macs[layer] for layer in LAYERS) / sum(network.macs.values())
    outcome = network.gate(ranges, least_int8_share=0.45 * share)
    assert not outcome.holds and outcome.kept_float == ()
    assert [trial.layers_in_float for trial in outcome.trials] == [0, 1, 2]
    said = failure_text(outcome)
    assert "2 most sensitive layers" in said and "\n" not in said
    assert "tensorrt: agreement" in said and "--calibration-data" in said


def test_a_real_network_that_loses_one_class_gets_it_back(network):
    """INT8 of one layer takes the rarest class that FP32 knows; all others are untouched."""
    classes = np.concatenate([truth for _, truth in network.faces])
    counts = np.bincount(classes, minlength=len(network.labels))
    rare = int(np.argmin(np.where(counts > 1, counts, counts.max())))
    assert 1 < counts[rare] < 0.1 * len(classes)

    def build(layers):
        model = network.model.clone()
        if "layer2.1.conv2" not in layers:
            for name in ("fc_1.bias", "fc_2.bias"):
                value = model.graph.initializers[name]
                bias = value.const_value.numpy().copy()
                bias[rare] = -100
                value.const_value = ir.tensor(bias)
        return {"tensorrt": model}

    rows = [LayerSensitivity(layer, 1 / (k + 1), 0, 0.25) for k, layer in
            enumerate(("layer1.0.conv1", "layer2.0.conv2", "layer2.1.conv2"))]
    outcome = gate(network.subject(build, lambda name: rows), LOOSE, 0)
    (said,) = outcome.trials[0].graphs["tensorrt"].broken
    assert f"recall of {network.labels[rare]} falls by 100.0 points" in said
    assert outcome.holds and list(outcome.kept_float) == rows
    assert [trial.layers_in_float for trial in outcome.trials] == [0, 1, 2, 3]


@pytest.mark.slow
def test_sensitivity_ranks_the_layer_that_clips_first_and_draws_it(network, tmp_path):
    passed = []

    def progress(layers):
        for layer in layers:
            passed.append(layer)
            yield layer

    rows = network.rank(network.clipped("layer2.0.conv2:input"), "tensorrt", progress)
    assert passed == list(LAYERS) and {row.layer for row in rows} == set(LAYERS)
    assert rows[0].layer == "layer2.0.conv2"
    assert rows[0].kl_int8 > 100 * rows[1].kl_int8 > 0
    assert rows[0].kl_float == pytest.approx(rows[0].kl_int8, rel=0.1)
    assert rows[0].macs_share == pytest.approx(0.031, abs=0.001)
    text = sensitivity_text(rows, most=3).splitlines()
    assert text[1].startswith("layer2.0.conv2") and text[-1] == "... and 1 less sensitive ones"
    save_sensitivity_plot(rows, tmp_path / "layers.png")
    assert cv2.imread(str(tmp_path / "layers.png")) is not None
    assert (tmp_path / "layers.svg").read_text().lstrip().startswith("<?xml")
