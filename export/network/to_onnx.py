"""A torch network becomes the ONNX graph that everything after it is derived from.

The graph is opset 17 (the newest that TensorRT 8.6 reads), batch norms folded, and every node and
value named after the module that it came from: the ranges' keys rest on those names, so they must
not depend on the exporter.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from onnxscript import optimizer

from feredge.runtime.spec import METADATA_KEY, ModelSpec

OPSET = 17
FOLD_LIMIT_BYTES = 1 << 26  # any constant of a network this size may be folded
AXES_AS_INPUT = ("ReduceMean", "ReduceMax")  # what opset 18 moved from attribute to input
# Attributes that opset 17 has not got; it does what their defaults say, and parity tells others.
NEW_IN_18 = {"Split": ("num_outputs",), "Resize": ("antialias", "keep_aspect_ratio_policy")}


def onnx_from_torch(module: torch.nn.Module, side_px: int) -> ir.Model:
    """Export a network in evaluation mode.

    Args:
        module: takes `(n, 3, side, side)` float32, returns `(n, classes)` probabilities.
        side_px: the side to export for; the batch is dynamic.

    Returns:
        Opset 17, input `faces`, output `probabilities`.

    Raises:
        ValueError: the graph uses an operator whose opset 18 form has no opset 17 twin here.
    """
    model = run_exporter(module.eval(), side_px)
    optimizer.optimize(model, input_size_limit=FOLD_LIMIT_BYTES, output_size_limit=FOLD_LIMIT_BYTES)
    lower_to_opset_17(model)
    name_after_modules(model.graph)
    passes.ClearMetadataAndDocStringPass()(model)
    model.producer_name = "feredge"
    return model


def run_exporter(module: torch.nn.Module, side_px: int) -> ir.Model:
    """Run torch's exporter at its own opset 18, without its chatter."""
    example = torch.rand(2, 3, side_px, side_px)
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (example,),
                input_names=["faces"],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                opset_version=18,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    finally:
        chatter.setLevel(level)
    assert program is not None  # only the TorchScript exporter returns None
    return program.model


def lower_to_opset_17(model: ir.Model) -> None:
    """Rewrite the operators that opset 18 changed; onnx's own converter refuses these graphs."""
    for node in model.graph:
        if node.op_type in AXES_AS_INPUT and len(node.inputs) == 2:
            given = node.inputs[1]
            axes = None if given is None else ir.convenience.get_const_tensor(given)
            if axes is None:
                raise ValueError(f"{node.op_type} {node.name}: its axes are computed at run time")
            node.attributes["axes"] = ir.AttrInt64s("axes", axes.numpy().tolist())
            node.attributes.pop("noop_with_empty_axes", None)
            node.resize_inputs(1)
        for name in NEW_IN_18.get(node.op_type, ()):
            node.attributes.pop(name, None)
    passes.RemoveUnusedNodesPass()(model)
    model.graph.opset_imports[""] = OPSET
    passes.CheckerPass()(model)


def name_after_modules(graph: ir.Graph) -> None:
    """Call each node, its outputs and its parameters after the module that made it."""
    seen: Counter[str] = Counter()
    fixed = {value.name for value in graph.outputs}
    for node in graph:
        base = module_path(node)
        name = base if not seen[base] else f"{base}_{seen[base]}"
        seen[base] += 1
        node.name = name
        for k, output in enumerate(node.outputs):
            if output.name not in fixed:
                output.name = name if k == 0 else f"{name}.{k}"
        if node.op_type == "Conv":
            for value, role in zip(node.inputs[1:], ("weight", "bias")):
                rename_initializer(graph, value, f"{name}.{role}")


def module_path(node: ir.Node) -> str:
    """Return `layer1.0.conv1` for a layer with parameters, `layer1.0.add` for an operator."""
    for value in node.inputs:
        name = "" if value is None or not value.is_initializer() else str(value.name)
        if name.endswith(".weight"):
            return name.removesuffix(".weight")
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "['', '']")
    scope = scopes.strip("[]").replace("'", "").split(", ")[-2]
    return f"{scope}.{node.op_type.lower()}".lstrip(".")


def rename_initializer(graph: ir.Graph, value: ir.Value | None, name: str) -> None:
    """Give a parameter its name, in the graph's table too."""
    if value is not None and value.name != name and value.is_initializer():
        graph.initializers.pop(str(value.name))
        value.name = name
        graph.initializers[name] = value


def save(model: ir.Model, spec: ModelSpec, path: Path) -> None:
    """Write a graph with its ModelSpec inside."""
    model = model.clone()
    model.metadata_props[METADATA_KEY] = spec.to_json()
    ir.save(model, path)
