"""The driver of the fuzz tests: it counts every input and names each kind of problem."""

import shutil
from argparse import Namespace
from pathlib import Path

import pytest

from feredge.benchmarks.experiments.robustness import EXPERIMENT, describe

pytestmark = pytest.mark.slow
FUZZ = Path(__file__).parents[2] / "fuzz"
HEAD = """
import json, os, time
from hypothesis import given, settings, strategies as st
"""
GOOD = HEAD + """
@settings(max_examples=7)
@given(st.binary())
def test_good(content):
    pass
"""
BAD = {
    "traceback": "raise KeyError('x')",
    "invalid JSON": "json.loads('{')",
    "crash": "os.kill(os.getpid(), 11)",
}


@pytest.fixture
def results(tmp_path):
    """Run the driver on a folder of test files, 40 examples in all."""

    def run(**files):
        shutil.copy(FUZZ / "conftest.py", tmp_path)
        for name, content in files.items():
            (tmp_path / f"test_{name}.py").write_text(content)
        return EXPERIMENT.measure(
            Namespace(tests=tmp_path, examples=40, only=[], json=None))

    return run


@pytest.mark.slow
def test_the_examples_are_shared_and_counted(results):
    found = results(a=GOOD, b=GOOD)
    assert [run["examples_per_test"] for run in found["files"]] == [20, 20]
    assert found["tests"] == 2
    assert 30 <= found["examples"] <= 50  # hypothesis may run a few more or fewer
    assert set(found["found"].values()) == {0} and 20 < found["peak_mb"] < 2000
    assert f"{found['examples']} inputs, 2 tests: 0 x traceback" in describe(found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD)
def test_a_problem_is_named_with_its_test(results, kind):
    found = results(good=GOOD, bad=GOOD.replace("    pass", f"    {BAD[kind]}"))
    assert found["found"] == {name: int(name == kind) for name in found["found"]}
    (problem,) = found["problems"]
    assert problem["kind"] == kind and "bad" in problem["test"]
    assert any(run["file"] == "test_good.py" and run["exit_code"] == 0 for run in found["files"])
