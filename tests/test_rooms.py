"""The rooms: import directions, late loading of heavy packages, the top level."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("runtime", "calibration", "export", "benchmarks")
HEAVY = {"torch", "onnx", "onnx_ir", "onnxruntime", "cv2", "tensorrt", "tensorrt_rtx", "pycuda"}


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def import_nodes(node):
    """Yield the import statements below a node, lazy ones included, those for types alone not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not is_type_checking(child):
            yield from import_nodes(child)


def imported(file):
    """Yield the full names of the modules and attributes that a file imports."""
    for node in import_nodes(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        else:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_files(rooms=ORDER):
    return [file for room in rooms for file in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_itself_and_the_rooms_before_it(room):
    allowed = ORDER[: ORDER.index(room) + 1]
    files = room_files([room])
    assert files
    for file in files:
        for name in imported(file):
            if name.startswith("feredge."):
                assert name.split(".")[1] in allowed, f"{file} imports {name}"


def test_the_runtime_never_names_torch_or_onnx():
    for file in room_files(["runtime"]):
        roots = {name.split(".")[0] for name in imported(file)}
        assert not roots & {"torch", "onnx", "onnx_ir"}, file


@pytest.mark.parametrize(
    "statement",
    [
        "import feredge.runtime",
        "from feredge.runtime.fer_run import main; main(['--help'])",
        "from feredge.export.fer_export import main; main(['--help'])",
        "from feredge.benchmarks.fer_bench import main; main(['--help'])",
        "from feredge.benchmarks.fer_eval import main; main(['--help'])",
    ],
    ids=["import", "fer-run", "fer-export", "fer-bench", "fer-eval"],
)
def test_heavy_packages_are_not_loaded_before_they_are_needed(statement):
    code = ("import sys, json, atexit\n"
            "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
            f"{statement}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert any(name.startswith("feredge.") for name in loaded)
    assert not loaded & HEAVY


def test_the_top_level_holds_the_rooms_and_little_else():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    top = {name.split("/")[0] for name in listed if not name.startswith(".")}
    assert top == {
        *ORDER, "src", "tests", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
        "SECURITY.md", "LICENSE", "MANIFEST.in", "Makefile",
    }
