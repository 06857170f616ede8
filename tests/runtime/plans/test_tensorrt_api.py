"""The API of each TensorRT version, and that the runtime uses nothing that a version lacks."""

import ast
import json
import sys
from pathlib import Path

import emulated_cuda
import pytest
import tensorrt_bindings
from emulated_cuda import or_skip
from tensorrt_standin import API, RTX

PLANS = Path(__file__).parents[3] / "runtime" / "plans"
OWNERS = {  # how the session names the objects of each class
    "self.trt.": None, "trt.": None, "self.runtime.": "Runtime", "self.engine.": "ICudaEngine",
    "session.engine.": "ICudaEngine", "engine.": "ICudaEngine", "context.": "IExecutionContext",
    "config.": "IRuntimeConfig", "self.cache.": "IRuntimeCache",
}
RTX_FILE = "rtx_cache.py"


def api_of(version):
    if version == RTX:
        code = ("import json, tensorrt_rtx; from tensorrt_bindings import public_names; "
                "print(json.dumps(public_names(tensorrt_rtx)))")
        try:
            text = emulated_cuda.run(sys.executable, "-c", code,
                                     folder=Path(tensorrt_bindings.__file__).parent)
        except RuntimeError as error:
            raise emulated_cuda.MissingTool(f"tensorrt_rtx is not installed: {error}") from error
        return json.loads(text.splitlines()[-1])
    return tensorrt_bindings.bindings_api(version)


@pytest.mark.parametrize("version", API)
def test_a_stand_in_has_the_names_of_the_real_bindings(version):
    real = or_skip(api_of, version)
    for kind, names in API[version].items():
        assert names == real[kind], kind
    absent = {"IRuntimeConfig", "IRuntimeCache", "CudaGraphStrategy"} - set(API[version])
    assert not absent & set(real)


def uses(file):
    """Yield `(class, name)` of every name of TensorRT that a file of the runtime uses."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            for owner, kind in OWNERS.items():
                if text.startswith(owner):
                    parts = text.removeprefix(owner).split(".")
                    if kind is None and len(parts) == 2:
                        yield tuple(parts)
                    elif kind is not None:
                        yield kind, parts[0]


@pytest.mark.parametrize("version", API)
def test_every_name_that_the_runtime_uses_exists(version):
    files = [file for file in PLANS.glob("*.py") if version == RTX or file.name != RTX_FILE]
    used = {use for file in files for use in uses(file)}
    assert {("IExecutionContext", "execute_async_v3"), ("ICudaEngine", "device_memory_size_v2"),
            ("Runtime", "DLA_core"), ("DataType", "HALF")} <= used
    assert (("IRuntimeConfig", "create_runtime_cache") in used) == (version == RTX)
    missing = {(kind, name) for kind, name in used if name not in API[version].get(kind, ())}
    assert not missing


def test_a_runtime_configuration_alone_does_not_mean_rtx():
    """The names by which versions must not be told apart, and the one that is RTX's alone."""
    having = {version for version in API if "create_runtime_config" in API[version]["ICudaEngine"]}
    assert having == {"10.13.3.9", "10.16.1.11", "11.4.0.106", RTX}
    assert [version for version in API if "IRuntimeCache" in API[version]] == [RTX]
