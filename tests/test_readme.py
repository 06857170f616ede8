"""Every command of the README runs, or is parsed where it needs what a test has not."""

import re
import shlex
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from safetensors import safe_open

from feredge.benchmarks import fer_bench, fer_eval
from feredge.benchmarks.experiments import readme as generator
from feredge.export import fer_export
from feredge.export.models.registry import WEIGHTS
from feredge.runtime import fer_run
from feredge.runtime.detect.weights import URL
from feredge.runtime.sources.pictures import find_pictures

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "export" / "tiny_network.py"
README = (ROOT / "README.md").read_text()
COMMANDS = {"fer-export": fer_export, "fer-run": fer_run, "fer-bench": fer_bench,
            "fer-eval": fer_eval}
# A camera, a GPU, or (the last) a detector under the README's name.
NEEDS_MORE = ("--camera", "--retry", "tensorrt", "manet.plan", "yunet.onnx")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += [line.strip() for line in README.splitlines() if line.startswith("    fer-")]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("fer-")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_readmes_commands_are_understood(words):
    COMMANDS[words[0]].arguments().parse_args(words[1:])


def seven_classes():
    """The bundled weights without contempt, in the order of the README's labels."""
    with safe_open(WEIGHTS / "manet-ferplus.safetensors", "pt") as file:
        labels = file.metadata()["labels"].split(",")
        state = {key: file.get_tensor(key) for key in file.keys()}
    named = "neutral,happiness,sadness,surprise,fear,disgust,anger"
    assert f"--labels {named}" in README
    rows = [labels.index(label) for label in named.split(",")]
    return {key: value[rows] if key.startswith("fc") else value for key, value in state.items()}


@pytest.fixture
def workplace(own, tmp_path, monkeypatch, astronaut, detector_path, faces_48px, write_clip):
    """A folder with what the README's commands name, and a detector in the cache."""
    cache = tmp_path / "cache" / "feredge"
    cache.mkdir(parents=True)
    shutil.copy(detector_path, cache / URL.rpartition("/")[2])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "album").mkdir()
    for path in ("people.jpg", "album/a.jpg", "album/b.png"):
        cv2.imwrite(str(tmp_path / path), astronaut)
    write_clip([astronaut] * 5, "clip.mp4")
    (tmp_path / "faces").mkdir()
    for file in find_pictures(faces_48px)[::70]:
        shutil.copy(file, tmp_path / "faces")
        labelled = tmp_path / "labelled" / file.parent.name
        labelled.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, labelled)
    own(EXAMPLE.read_text(), EXAMPLE.stem)
    torch.save(seven_classes(), tmp_path / "mine.pth")
    return tmp_path


@pytest.mark.timeout(900)
def test_the_readmes_commands_run_one_after_the_other(workplace, capfd):
    ran = 0
    for words in commands():
        if not any(argument in words for argument in NEEDS_MORE):
            assert COMMANDS[words[0]].main(words[1:]) == 0, words
            ran += 1
    assert ran >= 7
    written = ("rtx/manet.plan", "rtx/manet.plan.json", "exported/manet.int8.qdq.onnx",
               "mine.int8.onnx", "annotated.jpg", "faces.jsonl", "annotated/a.jpg", "faces.csv",
               "annotated.mp4", "checked.report.html", "latency.png", "confusion.png", "tiny.onnx")
    for name in written:
        assert (workplace / name).is_file(), name
    capfd.readouterr()
    code, example = blocks("python")
    assert example == EXAMPLE.read_text()
    assert len([line for line in code.splitlines() if line]) <= 6
    exec(compile(code, "README", "exec"), {})
    assert "happiness" in capfd.readouterr().out


def test_the_readmes_numbers_are_those_of_the_results():
    results = generator.read_results(ROOT / "benchmarks" / "results")
    files = (ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md"))
    texts = [file.read_text() for file in files]
    for text in texts:
        assert generator.fill(text, results) == text
    for name in generator.SECTIONS:
        assert any(f"<!-- {name} -->" in text for text in texts)


def test_a_number_typed_by_hand_would_be_noticed():
    results = generator.read_results(ROOT / "benchmarks" / "results")
    typed = README.replace("2026", "2027").replace(" ms |", " ms  |")
    assert generator.fill(typed, results) != typed


def test_what_the_readme_names_exists():
    for name in re.findall(r"`((?:runtime|export|benchmarks|calibration)/[\w./-]+)`", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`make (\w+)", README):
        assert f"\n{name}:" in (ROOT / "Makefile").read_text(), name
    for name in re.findall(r"\]\(([^)h#][^)]*)\)", README):
        assert (ROOT / name).is_file(), name
    titles = re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
    for anchor in re.findall(r"\]\(#([^)]*)\)", README):
        assert anchor in {title.lower().replace(" ", "-").replace(",", "") for title in titles}
