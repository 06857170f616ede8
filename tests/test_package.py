"""Wheel and sdist: built from a copy of the tracked files, and what they hold."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_WHEEL_MB = 50  # weights of two networks are 45 MB when compressed


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the sdist of the tracked files as they are now."""
    copy = tmp_path_factory.mktemp("copy") / "feredge"
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name and (ROOT / name).exists()]
    copy.mkdir()
    subprocess.run(["tar", "-cf", copy / "files.tar", "--", *names], cwd=ROOT, check=True)
    subprocess.run(["tar", "-xf", "files.tar"], cwd=copy, check=True)
    (copy / "files.tar").unlink()
    out = copy.parent / "dist"
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, copy], capture_output=True,
                   check=True)
    return out


@pytest.fixture(scope="module")
def wheel_names(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        return wheel.namelist()


@pytest.fixture(scope="module")
def sdist_names(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        return [member.name.partition("/")[2] for member in sdist if member.isfile()]


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "feredge/__init__.py", "feredge/py.typed", "feredge/runtime/fer_run.py",
    "feredge/runtime/preprocess/warp_faces.cu", "feredge/runtime/serve/live_page.html",
    "feredge/runtime/outputs/schemas/frame.schema.json",
    "feredge/runtime/weights/face_detector.onnx",
    "feredge/export/weights/manet-ferplus.safetensors",
    "feredge/export/report/template.html.jinja", "feredge/benchmarks/fer_eval.py",
])
def test_the_wheel_holds_what_runs(wheel_names, name):
    assert name in wheel_names


@pytest.mark.slow
def test_the_wheel_holds_neither_experiments_nor_results_nor_deployment_nor_tests(wheel_names):
    parts = ("experiments", "results", "deploy", "tests")
    assert not [name for name in wheel_names if set(name.split("/")) & set(parts)]


@pytest.mark.slow
def test_the_sdist_holds_the_rooms_and_the_tests_once(sdist_names):
    assert {"pyproject.toml", "README.md", "tests/conftest.py"} <= set(sdist_names)
    kernels = [name for name in sdist_names if name.endswith("warp_faces.cu")]
    assert len(kernels) == 1


@pytest.mark.slow
def test_the_wheel_is_small_enough_for_a_package_index(built):
    assert next(built.glob("*.whl")).stat().st_size < MOST_WHEEL_MB * 1e6


@pytest.mark.slow
def test_the_description_renders_on_a_package_index(built):
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built.iterdir()],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
