"""onnxruntime's execution providers, as far as the installed package has them."""

import logging
from pathlib import Path

import numpy as np
import pytest

import feredge.runtime
from feredge.runtime import open_engine
from feredge.runtime.engines import onnxruntime, providers
from feredge.runtime.engines.providers import CHECKED_FACES, PROVIDERS, ParityCheck, Provider
from feredge.runtime.errors import EngineError, UsageError
from feredge.runtime.fer_run import main

README = (Path(feredge.runtime.__file__).parent / "README.md").read_text()


@pytest.fixture
def installed(monkeypatch):
    """The name of a provider beside the CPU, which the installed package has."""
    import onnxruntime as ort

    for name in providers.available_providers():
        if name != providers.CPU:
            return name
    others = [name for name in ort.get_available_providers() if name != "CPUExecutionProvider"]
    if not others:
        pytest.skip("this onnxruntime has the CPU alone")
    monkeypatch.setitem(PROVIDERS, "other", Provider(others[0], "onnxruntime"))
    return "other"


@pytest.fixture
def crops():
    return np.random.default_rng(0).random((5, 3, 96, 96), np.float32)


def test_a_provider_gives_the_cpus_predictions_and_one_line_says_so(installed, crops, caplog):
    caplog.set_level(logging.INFO, "feredge")
    with open_engine() as cpu, open_engine(provider=installed) as engine:
        for _ in range(6):
            assert np.allclose(engine.infer(crops), cpu.infer(crops), atol=0.05)
    (line,) = [line for line in caplog.messages if line.startswith("provider")]
    assert f"{installed} agrees with the CPU: top-1 agreement on 20 of 20 faces" in line


def test_a_run_with_fewer_faces_is_reported_at_its_end(installed, crops, caplog):
    caplog.set_level(logging.INFO, "feredge")
    with open_engine(provider=installed) as engine:
        engine.infer(crops)
        assert not caplog.messages
    assert "5 of 5 faces" in caplog.text


def test_predictions_that_differ_are_a_warning_with_the_numbers(caplog):
    rows = np.eye(4, dtype=np.float32)[np.zeros(CHECKED_FACES, int)]
    check = ParityCheck("npu", lambda crops: rows)
    others = rows.copy()
    others[3] = [0.2, 0.8, 0, 0]
    check.add(np.zeros((CHECKED_FACES, 3, 8, 8)), others)
    check.add(np.zeros((1, 3, 8, 8)), others[:1])
    check.close()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "provider npu differs from the CPU: top-1 agreement on 15 of 16 faces, largest difference "
        "of a probability 0.8000 (limit 0.05)")


@pytest.mark.parametrize(("name", "said"), [
    ("qnn", "--provider qnn is not available; the installed onnxruntime has: cpu"),
    ("vulkan", "--provider 'vulkan' is unknown; the installed onnxruntime has: cpu"),
])
def test_an_unavailable_provider_is_one_line_that_lists_the_available(
        name, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(providers, "available_providers", lambda: ["cpu"])
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 255 abc")
    assert main(["--source", str(tmp_path / "a.ppm"), "--provider", name]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_provider_that_does_not_start_is_an_error_and_not_the_cpu(monkeypatch):
    monkeypatch.setattr(onnxruntime, "find_provider", lambda name: PROVIDERS["cuda"])
    with pytest.raises(EngineError, match="provider cuda does not start here"):
        open_engine(provider="cuda")


@pytest.mark.parametrize("path", ["x.plan", "triton://127.0.0.1/manet"])
def test_a_provider_is_for_onnx_files_alone(path):
    with pytest.raises(UsageError, match="`provider` is for ONNX files"):
        open_engine(path, provider="cuda")


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_readme_says_what_is_tested(name):
    provider = PROVIDERS[name]
    row = f"| `{name}` | {provider.name} | {provider.package} | {provider.tested or 'no'} |"
    assert row in README
