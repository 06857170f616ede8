"""The public names of the room, and an export as one Python call."""

import json
import subprocess
import sys

import pytest

import feredge.export as room
from feredge.export import ExportOptions, PlanOptions, export
from feredge.export.fer_export import arguments
from feredge.runtime import open_engine


def test_the_public_names_are_these():
    names = ["Defaults", "ExportOptions", "PlanOptions", "export", "network"]
    assert sorted(room.__all__) == dir(room) == names
    assert all(getattr(room, name).__doc__ for name in names)


def test_the_room_is_imported_without_heavy_packages():
    code = ("import sys, json, feredge.export, feredge.export.fer_export\n"
            "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout)) & {"torch", "onnx", "onnx_ir", "cv2", "tensorrt"}


def test_arguments_without_a_value_are_the_defaults_of_the_options():
    parsed = arguments().parse_args(["--model", "manet"])
    assert ExportOptions.from_arguments(parsed) == ExportOptions("manet")


@pytest.mark.slow
def test_an_export_is_one_call(tmp_path, capfd):
    report = export(ExportOptions("manet", output=str(tmp_path), name="mine", quiet=True,
                                  plan=PlanOptions("onnx")))
    assert report == json.loads((tmp_path / "mine.report.json").read_text())
    assert capfd.readouterr().err == ""
    with open_engine(tmp_path / "mine.onnx") as engine:
        assert engine.spec.model == "manet"


def test_modules_of_the_room_import_each_other_in_one_direction():
    """No circle of imports, lazy ones and those for type checking included."""
    import ast
    from pathlib import Path

    root = Path(room.__file__).parent
    imports = {}
    for file in root.rglob("*.py"):
        parts = ("feredge", "export", *file.relative_to(root).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        found = {node.module for node in ast.walk(ast.parse(file.read_text()))
                 if isinstance(node, ast.ImportFrom) and node.module}
        imports[name] = {target for target in found - {name}
                         if target.startswith("feredge.export.")}
    done = set()
    while rest := imports.keys() - done:
        free = {name for name in rest if imports[name] & imports.keys() <= done}
        assert free, f"these import each other: {sorted(rest)}"
        done |= free


def test_the_networks_are_listed_without_torch(monkeypatch, capfd):
    from feredge.export.fer_export import main
    from feredge.export.network.size import sizes_json

    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["--list", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    monkeypatch.undo()
    assert listed == json.loads(sizes_json()), "python -m feredge.export.network.size renews them"


def test_auto_continues_without_a_plan_where_a_package_is_missing(monkeypatch):
    import pytest

    from feredge.export import write
    from feredge.runtime.errors import PackageError

    def missing(*_):
        raise PackageError("polygraphy: No module; install it with: pip install X")

    monkeypatch.setattr(write, "chosen_kind", lambda target: "tensorrt-rtx")
    monkeypatch.setattr(write, "tensorrt_of", missing)
    with pytest.warns(UserWarning, match="no plan is built: polygraphy"):
        assert write.plan_builder(PlanOptions("auto")) is None
    with pytest.raises(PackageError):
        write.plan_builder(PlanOptions("tensorrt-rtx"))
