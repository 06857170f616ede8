"""The table of versions, and that every attribute it reads exists in the TensorRTs at hand."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from feredge.export.tensorrt import versions as tensorrt_versions
from feredge.export.tensorrt.versions import chosen_kind, gpu_here, tensorrt_of
from feredge.runtime.errors import ExportError, PackageError

ROOT = Path(__file__).parents[3]
FILES = ("export/tensorrt/versions.py", "export/tensorrt/builder.py",
         "export/tensorrt/config.py", "export/tensorrt/options.py",
         "export/tensorrt/int8_coverage.py", "export/tensorrt/progress.py",
         "calibration/measure/tensorrt_cache.py")
# In RTX alone or in the others alone; each is looked up with hasattr or behind `is_rtx`.
RTX_ONLY = {"ComputeCapability", "ComputeCapability.__members__"}
NOT_IN_RTX = {"IInt8EntropyCalibrator2", "BuilderFlag.INT8"}


def chain(node):
    """Return `IBuilderConfig.DLA_core` of `rt.module.IBuilderConfig.DLA_core`, else None."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        names.append(node.id)
    names = names[::-1]
    return ".".join(names[names.index("module") + 1 :]) if "module" in names[:2] else None


def touched():
    found = set()
    for name in FILES:
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            found.add(chain(node) or "")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr":
                owner = chain(node.args[0])
                if owner is not None:
                    found.add(f"{owner}.{node.args[1].value}".lstrip("."))
    return {name for name in found if name}


def resolves(module, name):
    for part in name.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True


def test_every_attribute_exists_in_rtx_or_is_known_not_to(rtx):
    names = touched()
    assert len(names) > 12 and "MemoryPoolType.WORKSPACE" in names
    assert {name for name in names if not resolves(rtx.module, name)} == NOT_IN_RTX


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """TensorRT 10.13's published type stubs, mended where they are not valid Python."""
    folders = [Path(path) / name for path in sys.path for name in ("tensorrt", "tensorrt_bindings")
               if (Path(path) / name / "__init__.pyi").is_file()]
    if len(folders) != 2:
        message = "the type stubs of TensorRT 10.13 are not installed: pip install tensorrt-stubs"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    root = tmp_path_factory.mktemp("stubs")
    for folder in folders:
        shutil.copytree(folder, root / folder.name)
    for file in root.rglob("*.pyi"):
        text = re.sub(r"\bin: ", "in_: ", file.read_text())
        text = text.replace("power: Weights = None, channel_axis: int)",
                            "power: Weights = None, channel_axis: int = 0)")
        file.write_text(re.sub(r"^import tensorrt_libs.*$", "", text, flags=re.MULTILINE))
    return root


def checked(root, folder):
    """Run mypy on a folder of files against the stubs; return what it says."""
    (root / "mypy.ini").write_text(
        "[mypy]\nstrict = True\nignore_missing_imports = True\nfollow_imports = silent\n"
        "[mypy-tensorrt,tensorrt_bindings.*]\nignore_errors = True\n")
    files = [str(file) for file in folder.rglob("*.py")]
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", root / "mypy.ini", *files], text=True,
        capture_output=True, env={**os.environ, "MYPYPATH": str(root)}, cwd=root).stdout


@pytest.mark.slow
def test_every_attribute_exists_in_tensorrt_10_13(stubs, tmp_path):
    names = sorted(touched() - RTX_ONLY)
    lines = [f"trt.{name}" for name in names if "__" not in name]
    (tmp_path / "names.py").write_text("import tensorrt as trt\n\n" + "\n".join(lines) + "\n")
    rooms = stubs / "feredge"
    for room in ("runtime", "calibration", "export"):
        shutil.copytree(ROOT / room, rooms / room, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("weights", "__pycache__"))
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    said = checked(stubs, tmp_path)
    assert "Success" in said, said
    planted = tmp_path / "export" / "tensorrt" / "config.py"
    planted.write_text(planted.read_text().replace("num_DLA_cores", "num_DLAs"))
    (tmp_path / "names.py").write_text("import tensorrt as trt\n\ntrt.BuilderFlag.INT9\n")
    said = checked(stubs, tmp_path)
    assert 'has no attribute "num_DLAs"' in said and 'has no attribute "INT9"' in said, said


def test_no_enum_is_written_as_an_integer():
    for name in FILES:
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                        and node.func.attr in ("set_flag", "clear_flag")
                        and isinstance(node.args[0], ast.Constant)), name


def test_rtx_is_what_the_table_says(rtx):
    assert rtx.is_rtx and rtx.is_strongly_typed and rtx.has_progress
    assert not (rtx.has_precision_flags or rtx.has_calibrator or rtx.has_dla
                or rtx.has_timing_cache)
    assert rtx.number[:2] >= (1, 4)
    gpus = rtx.compute_capabilities()
    assert {"8.0", "8.6", "8.9", "12.0"} <= set(gpus) and "7.5" not in gpus
    assert list(gpus) == sorted(gpus, key=float)


def test_an_older_one_has_flags_calibrators_and_dla(older_than_11):
    older = older_than_11("10.3.0")
    assert older.number == (10, 3, 0)
    assert older.has_precision_flags and older.has_calibrator and older.has_dla
    assert not older.is_strongly_typed


def test_a_tensorrt_older_than_jetpack_6_1_is_named(monkeypatch):
    old = type(sys)("tensorrt")
    old.__version__, old.Builder = "8.6.2", object
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(ExportError, match=r"TensorRT 8\.6\.2 is too old: 10\.3 \(JetPack 6\.1\)"):
        tensorrt_of("tensorrt")


class Driver:
    """The three names of `pycuda.driver` that are asked."""

    class Error(Exception):
        pass

    def __init__(self, *capability):
        self.capability = capability

    def init(self):
        if not self.capability:
            raise self.Error("cuInit failed: no CUDA-capable device is detected")

    def Device(self, ordinal):
        assert ordinal == 0
        return self

    def compute_capability(self):
        return self.capability


def test_the_gpu_of_this_machine_is_asked_for_its_compute_capability():
    assert gpu_here(Driver(8, 7)) == "8.7" and gpu_here(Driver(12, 0)) == "12.0"
    assert gpu_here(Driver()) is None


def test_tensorrt_without_a_gpu_says_so(older_than_11, monkeypatch):
    monkeypatch.setattr(tensorrt_versions, "require", lambda *names: Driver())
    with pytest.raises(ExportError, match=r"builds for the GPU of the machine.*none here"):
        older_than_11("10.3.0").compute_capabilities()
    monkeypatch.setattr(tensorrt_versions, "require", lambda *names: Driver(8, 7))
    assert older_than_11("10.3.0").compute_capabilities() == ("8.7",)


@pytest.mark.parametrize(
    "installed, capability, chosen",
    [({"tensorrt", "pycuda", "tensorrt_rtx"}, (8, 7), "tensorrt"),
     ({"tensorrt", "pycuda", "tensorrt_rtx"}, (), "tensorrt-rtx"),
     ({"tensorrt", "pycuda"}, (), None), ({"tensorrt_rtx"}, (), "tensorrt-rtx"), (set(), (), None)],
)
def test_auto_takes_what_the_machine_has(monkeypatch, installed, capability, chosen):
    monkeypatch.setattr(tensorrt_versions, "is_installed", lambda name: name in installed)
    monkeypatch.setattr(tensorrt_versions, "require", lambda *names: Driver(*capability))
    assert chosen_kind("auto") == chosen
    assert chosen_kind("onnx") is None and chosen_kind("tensorrt") == "tensorrt"


def test_a_bare_folder_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert not tensorrt_versions.is_installed("tensorrt")
    with pytest.raises(PackageError, match=r"not the package.*feredge\[tensorrt\]"):
        tensorrt_of("tensorrt")
    sys.modules.pop("tensorrt", None)
