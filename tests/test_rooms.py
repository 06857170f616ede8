"""The rooms: import directions, no circles, late loading of heavy packages, the top level."""

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
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


def module_of(file):
    parts = ("feredge", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_files(rooms=ORDER):
    return [file for room in rooms for file in sorted((ROOT / room).rglob("*.py"))]


def import_graph():
    """Return for each module the project's modules that it imports."""
    modules = {module_of(file): file for file in room_files()}
    graph = {}
    for module, file in modules.items():
        names = set()
        for name in imported(file):
            name = name if name in modules else name.rpartition(".")[0]
            names.add(name if name in modules else None)
        graph[module] = names - {None, module}
    return graph


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_itself_and_the_rooms_before_it(room):
    allowed = ORDER[: ORDER.index(room) + 1]
    files = room_files([room])
    assert files
    for file in files:
        for name in imported(file):
            if name.startswith("feredge."):
                assert name.split(".")[1] in allowed, f"{file} imports {name}"


def test_no_modules_import_each_other_in_a_circle_not_even_late():
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def folder_of(module):
    """Return the folder of a room that a module stands in, None for the room's own files."""
    parts = module.split(".")[1:]
    return tuple(parts[:2]) if (ROOT / Path(*parts[:2])).is_dir() and len(parts) > 1 else None


# What folders of the runtime import of each other's implementations, and why.
ACROSS = {
    ("runtime.", "runtime.gpu.frame_layout"): "how a frame lies in memory is a plain data type",
    ("runtime.batch", "runtime."): "it puts the pipeline together for many workers",
    ("runtime.engines", "runtime.clients"): "an address opens a server's client",
    ("runtime.clients", "runtime.preprocess"): "a server's client cuts its crops",
    ("runtime.detect.tensorrt", "runtime.gpu.frames"): "a detector on the GPU shares its frames",
    ("runtime.detect.tensorrt", "runtime.preprocess"): "the crop kernel scales the frame",
    ("runtime.detect.tensorrt", "runtime.plans"): "plans of detectors and engines share a runner",
    ("runtime.detect.yunet", "runtime.engines.onnxruntime"): "sessions are opened in one place",
    ("runtime.engines.onnxruntime", "runtime.preprocess"): "an engine cuts its crops",
    ("runtime.engines.tensorrt", "runtime.preprocess"): "an engine cuts its crops",
    ("runtime.engines.tensorrt", "runtime.plans"): "plans of detectors and engines share a runner",
    ("runtime.plans", "runtime.gpu"): "a plan runs on the GPU",
    ("runtime.plans", "runtime.preprocess"): "the runner launches the crop kernel",
    ("runtime.preprocess", "runtime.gpu.color"): "the crop converts colors",
}


def is_allowed_across(module, name):
    short, target = module.removeprefix("feredge."), name.removeprefix("feredge.")
    return any(short.startswith(a) and target.startswith(b) for a, b in ACROSS)


def test_folders_of_the_runtime_import_each_others_base_alone():
    wrong = []
    for module, names in import_graph().items():
        folder = folder_of(module)
        for name in names:
            other = folder_of(name)
            if None in (folder, other) or folder == other or folder[0] != "runtime":
                continue
            is_base = name.rpartition(".")[2] == "base" or name == f"feredge.{'.'.join(other)}"
            if not is_base and not is_allowed_across(module, name):
                wrong.append(f"{module} imports {name}")
    assert not wrong, "\n".join(wrong)


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
