"""The INT8 share, from the network that a plan is built from and from the engine inspector."""

import json

import pytest

from feredge.export.tensorrt.int8_coverage import ConvWork, inspected_work, int8_facts, network_work


def inspected(kind, maps, channels, side, name="conv"):
    """A convolution as TensorRT's developer guide shows the inspector's detailed JSON."""
    tensor = {"Name": name, "Location": "Device", "Dimensions": [-1, maps, side, side],
              "Format/Datatype": "N/A due to dynamic shapes"}
    return {"Name": name, "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor],
            "ParameterType": "Convolution", "Kernel": [3, 3], "OutMaps": maps, "Groups": 1,
            "Weights": {"Type": kind, "Count": maps * channels * 9}, "HasBias": 1}


REFORMAT = {"Name": "reformat", "LayerType": "Reformat", "ParameterType": "Reformat"}


@pytest.mark.parametrize("bindings", ["Bindings", "I/O Tensors"])
def test_the_inspector_tells_the_share_of_the_work(bindings):
    layers = [REFORMAT, inspected("Int8", 32, 16, 12), inspected("Half", 32, 16, 24)]
    work = inspected_work(json.dumps({"Layers": layers, bindings: ["faces", "probabilities"]}))
    assert work == [ConvWork(32 * 16 * 9 * 144, 32 * 16 * 9, True),
                    ConvWork(32 * 16 * 9 * 576, 32 * 16 * 9, False)]
    facts = int8_facts(work, work, 1000)
    assert facts == {"int8_share": pytest.approx(0.2), "int8_share_from": "engine inspector"}


@pytest.mark.parametrize("layers", [[], [REFORMAT], ["conv1 + relu"],
                                    [inspected("Int8", 8, 8, 8), {"LayerType": "DLA"}]],
                         ids=["none", "no convolution", "names only", "dla"])
def test_layers_that_do_not_say_what_they_do_are_not_counted(layers):
    assert inspected_work(json.dumps({"Layers": layers})) is None


def parsed(rtx, path):
    from feredge.export.tensorrt.builder import polygraphy_for

    loaders = polygraphy_for(rtx)
    return loaders.network_from_onnx_path(str(path), strongly_typed=True)


@pytest.mark.parametrize(
    "file, share",
    [("manet.onnx", 0), ("manet.fp16.onnx", 0), ("manet.int8.qdq.onnx", 0.999),
     ("manet.int8.fp16.onnx", 0.999)],
)
def test_the_parsed_network_is_counted_as_the_onnx_graph_is(rtx, typed, file, share):
    import onnx_ir as ir

    from feredge.calibration.quality.agreement import conv_macs

    builder, network, parser = parsed(rtx, typed / file)
    work = network_work(network, rtx)
    macs = conv_macs(ir.load(typed / "manet.onnx"), 96)
    assert sorted(conv.macs for conv in work) == sorted(macs.values())
    facts = int8_facts(work, None, 2 * sum(conv.weights for conv in work))
    assert facts["int8_share"] == pytest.approx(share, abs=1e-3)
    assert facts["size_against_fp16_weights"] == 1
    del network, parser, builder
