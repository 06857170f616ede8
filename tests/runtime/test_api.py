"""The public names of the runtime: pinned, visible, lazy and typed."""

import subprocess
import sys

import pytest

import feredge.runtime
from feredge.runtime import Faces, FeredgeError

NAMES = """
AnnotatedOutput Annotator BoxError CalibrationError CheckpointError Csv Detector DetectorOptions
Engine EngineError EngineOptions ExportError Faces FeredgeError Frame FrameResult JsonLines
KernelError ModelSpec Observer Output OutputError OutputOptions PackageError PageOptions Pipeline
PipelineOptions RunOptions Smoother Source SourceError SourceOptions SpecError Summary TrackEvent
TrackOptions Tracker UsageError VideoFile classify open_detector open_engine open_source predict
run
""".split()


def test_the_public_names_are_these():
    assert feredge.runtime.__all__ == NAMES == dir(feredge.runtime)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_exists_and_is_documented(name):
    value = getattr(feredge.runtime, name)
    assert value.__name__ == name
    assert value.__doc__ and value.__doc__.rstrip().endswith(".")


def test_other_names_are_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        feredge.runtime.nothing  # noqa: B018


def test_importing_the_package_changes_no_environment_and_loads_no_opencv():
    code = ("import os, sys, warnings; before = dict(os.environ), warnings.showwarning\n"
            "import feredge.runtime\n"
            "assert before == (dict(os.environ), warnings.showwarning)\n"
            "assert not {'cv2', 'onnxruntime', 'torch'} & set(sys.modules)\n"
            "from feredge.runtime import *\n"
            "assert open_engine.__name__ == 'open_engine'")
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_mypy_and_pyright_see_the_real_types(tmp_path):
    (tmp_path / "use.py").write_text(
        "from feredge.runtime import Faces, open_engine, run\n"
        "reveal_type(open_engine)\nreveal_type(run)\nreveal_type(Faces.empty()[0].label)\n")
    python = sys.executable  # basedpyright is pyright, whole in its wheel
    for tool in (["mypy", "--strict"], ["basedpyright", "--pythonpath", python]):
        done = subprocess.run([python, "-m", *tool, "use.py"], cwd=tmp_path,
                              capture_output=True, text=True)
        assert "Engine" in done.stdout and "Summary" in done.stdout, done.stdout
        assert "str | None" in done.stdout and "Any" not in done.stdout, done.stdout


def test_every_error_is_a_feredge_error():
    errors = [getattr(feredge.runtime, name) for name in NAMES if name.endswith("Error")]
    assert len(errors) >= 11 and all(issubclass(error, FeredgeError) for error in errors)
    assert isinstance(Faces.empty(), Faces)
