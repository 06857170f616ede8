"""The files that MLServer reads; the server itself runs in the experiment."""

import ast
import json

from feredge.benchmarks.experiments.mlserver import RUNTIME, write_server
from feredge.runtime.spec import InputSpec, ModelSpec, SourceSpec


def test_the_servers_files_have_the_networks_names_and_shapes(tmp_path):
    spec = ModelSpec("manet", "test", ("neutral", "happiness"), InputSpec(48), SourceSpec("0" * 64))
    port = write_server(tmp_path, tmp_path / "manet.onnx", spec)
    assert json.loads((tmp_path / "settings.json").read_text())["grpc_port"] == port
    model = json.loads((tmp_path / "model-settings.json").read_text())
    assert model["inputs"] == [{"name": "faces", "datatype": "FP32", "shape": [-1, 3, 48, 48]}]
    assert model["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}]
    assert ModelSpec.from_json((tmp_path / "feredge.json").read_text()) == spec
    assert "OnnxRuntime" in {node.name for node in ast.parse(RUNTIME).body
                             if isinstance(node, ast.ClassDef)}
