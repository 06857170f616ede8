"""Every TensorRT attribute that the runtime touches exists in RTX and in the stubs of 10.13."""

import ast
import importlib.metadata
import os
import re
from pathlib import Path

import pytest

SESSION = Path(__file__).parents[3] / "runtime" / "engines" / "plan_session.py"
BOTH = {
    "Logger": {"ERROR"},
    "Runtime": {"deserialize_cuda_engine"},
    "TensorIOMode": {"INPUT"},
    "DataType": {"HALF"},
    "ICudaEngine": {"num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_dtype",
                    "get_tensor_profile_shape", "create_execution_context"},
    "IExecutionContext": {"set_input_shape", "set_tensor_address", "infer_shapes",
                          "execute_async_v3"},
}
RTX = {
    "ICudaEngine": {"create_runtime_config"},
    "IRuntimeConfig": {"create_runtime_cache", "set_runtime_cache", "cuda_graph_strategy"},
    "IRuntimeCache": {"serialize", "deserialize"},
    "CudaGraphStrategy": {"WHOLE_GRAPH_CAPTURE"},
}
TENSORRT = {
    "ICudaEngine": {"device_memory_size", "device_memory_size_v2",
                    "create_execution_context_without_device_memory"},
    "IExecutionContext": {"set_device_memory"},
    "ExecutionContextAllocationStrategy": {"USER_MANAGED"},
}
ONLY_8_6 = {"IExecutionContext": {"device_memory"}}  # by NVIDIA's API reference; nothing to ask


def missing(exists, *tables):
    return [f"{kind}.{name}" for table in tables for kind, names in table.items()
            for name in sorted(names) if not exists(kind, name)]


def or_skip(message):
    (pytest.fail if os.environ.get("CI") else pytest.skip)(message)


def test_tensorrt_rtx_has_what_the_runtime_touches():
    try:
        import tensorrt_rtx
    except ImportError:
        or_skip("tensorrt_rtx is not installed")
    assert not missing(lambda kind, name: hasattr(getattr(tensorrt_rtx, kind, None), name),
                       BOTH, RTX)


def test_tensorrt_10_13_has_what_the_runtime_touches():
    try:
        files = importlib.metadata.files("tensorrt-stubs")
    except importlib.metadata.PackageNotFoundError:
        or_skip("tensorrt-stubs is not installed")
    (stub,) = [file for file in files if file.name == "tensorrt.pyi"]
    text = re.sub(r"\bin: ", "in_: ", stub.locate().read_text())
    text = text.replace("power: Weights = None, channel_axis: int)",
                        "power: Weights = None, channel_axis: int = 0)")
    members = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            members[node.name] = {
                getattr(item, "name", None) or getattr(getattr(item, "target", None), "id", None)
                for item in node.body}
    assert not missing(lambda kind, name: name in members.get(kind, ()), BOTH, TENSORRT)


def test_the_tables_hold_all_that_the_session_touches():
    """A new attribute of an engine, context, configuration or cache must enter a table above."""
    tables = (BOTH, RTX, TENSORRT, ONLY_8_6)
    known = {name for table in tables for names in table.values() for name in names}
    kinds = {kind for table in tables for kind in table}
    touched = set()
    for node in ast.walk(ast.parse(SESSION.read_text())):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner in ("self.engine", "context", "config", "self.cache", "self.runtime"):
                touched.add(node.attr)
            if owner in ("self.trt", "trt"):
                assert node.attr in kinds, node.attr
    assert {"execute_async_v3", "create_runtime_cache", "deserialize_cuda_engine"} <= touched
    assert touched <= known, touched - known
