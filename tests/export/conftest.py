"""Fixtures for plans: real TensorRT-RTX builds, which need no GPU."""

import os
import sys
from pathlib import Path

import pytest

from feredge.export.fer_export import main
from feredge.export.tensorrt.versions import TensorRT, is_installed, tensorrt_of

sys.path.append(str(Path(__file__).parents[1] / "pages"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Ranges that one test measured are not there for the next."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def rtx():
    """TensorRT-RTX; without it CI fails, others skip."""
    missing = [name for name in ("tensorrt_rtx", "polygraphy") if not is_installed(name)]
    if missing:
        message = f"not installed: {', '.join(missing)}; pip install 'feredge[tensorrt-rtx]'"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return tensorrt_of("tensorrt-rtx")


@pytest.fixture(scope="session")
def typed(rtx, tmp_path_factory):
    """The bundled network in every form, with its two-precision plan."""
    folder = tmp_path_factory.mktemp("typed")
    assert main(["--model", "manet", "--int8", "--fp16", "--target", "tensorrt-rtx",
                 "--output", str(folder)]) == 0
    return folder


class Version:
    """Says another TensorRT's version, and has its precision flags; everything else is RTX's."""

    class BuilderFlag:
        FP16, INT8 = "fp16", "int8"

    IInt8EntropyCalibrator2 = object

    def __init__(self, module, version):
        self.module, self.__version__ = module, version

    def __getattr__(self, name):
        return getattr(self.module, name)


@pytest.fixture
def older_than_11(rtx):
    """A TensorRT with builder flags as far as the table of versions sees it; it cannot build."""
    return lambda version: TensorRT("tensorrt", Version(rtx.module, version))


@pytest.fixture
def line(capfd):
    """Run fer-export where it must fail; return its one line."""

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        error = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
        assert len(error) == 1
        return error[0]

    return run
