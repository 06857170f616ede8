"""Commands and examples of the READMEs run, or are parsed where they need what a test has not."""

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
from feredge.runtime import fer_batch, fer_report, fer_run
from feredge.runtime.sources.pictures import find_pictures

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "export" / "tiny_network.py"
READMES = sorted(ROOT.glob("*.md")) + [
    path for room in ("export", "calibration", "runtime", "benchmarks")
    for path in sorted((ROOT / room).rglob("README.md"))]
COMMANDS = {"fer-export": fer_export, "fer-run": fer_run, "fer-bench": fer_bench,
            "fer-eval": fer_eval, "fer-batch": fer_batch, "fer-report": fer_report}
NOT_RUN = re.compile(r"<!-- not run: [^\n]+ -->\n```\w+\n.*?```", flags=re.DOTALL)
# A camera, a live page that stays, a server, or a GPU: parsed, not run.
NEEDS_MORE = ("--camera", "--retry", "--serve", "tensorrt", "manet.plan", "--publish")


def text_of(path):
    return path.read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(text):
    """Return the words of every command of the project; a backslash continues a line."""
    joined = [block.replace("\\\n", " ") for block in blocks(text, "sh")]
    lines = [line for block in joined for line in block.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    fer-")]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("fer-")]


@pytest.mark.parametrize(
    "words", [words for path in READMES for words in commands(text_of(path))], ids=" ".join)
def test_the_readmes_commands_are_understood(words):
    COMMANDS[words[0]].arguments().parse_args(words[1:])


def seven_classes():
    """The bundled weights without contempt, in the order of the README's labels."""
    with safe_open(WEIGHTS / "manet-ferplus.safetensors", "pt") as file:
        labels = file.metadata()["labels"].split(",")
        state = {key: file.get_tensor(key) for key in file.keys()}
    named = "neutral,happiness,sadness,surprise,fear,disgust,anger"
    assert f"--labels {named}" in text_of(ROOT / "README.md")
    rows = [labels.index(label) for label in named.split(",")]
    return {key: value[rows] if key.startswith("fc") else value for key, value in state.items()}


@pytest.fixture
def workplace(own, tmp_path, monkeypatch, astronaut, faces_48px, write_clip):
    """A folder with what the README's commands name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "album").mkdir()
    for path in ("people.jpg", "album/a.jpg", "album/b.png"):
        cv2.imwrite(str(tmp_path / path), astronaut)
    write_clip([astronaut] * 5, "clip.mp4")
    (tmp_path / "faces").mkdir()
    for file in find_pictures(faces_48px)[::7]:
        shutil.copy(file, tmp_path / "faces" / f"{file.parent.name}-{file.name}")
    for file in find_pictures(faces_48px)[::70]:
        labeled = tmp_path / "labeled" / file.parent.name
        labeled.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, labeled)
    own(EXAMPLE.read_text(), EXAMPLE.stem)
    torch.save(seven_classes(), tmp_path / "mine.pth")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readmes_commands_run_one_after_the_other(workplace, capfd):
    text = NOT_RUN.sub("", text_of(ROOT / "README.md"))
    wanted = sorted(commands(text), key=lambda words: words[0] != "fer-export")  # they make engines
    ran = [words for words in wanted if not any(more in words for more in NEEDS_MORE)]
    for words in ran:
        assert COMMANDS[words[0]].main(words[1:]) == 0, words
    assert len(ran) >= 6
    for name in ("exported/manet.int8.qdq.onnx", "mine.int8.onnx", "annotated.jpg", "faces.jsonl",
                 "annotated.mp4", "faces.csv", "accuracy.json"):
        assert (workplace / name).is_file(), name
    capfd.readouterr()
    (code,) = blocks(text, "python")
    assert len([line for line in code.splitlines() if line]) <= 6
    exec(compile(code, "README", "exec"), {})
    assert "happiness" in capfd.readouterr().out


def test_the_example_of_a_network_is_the_one_that_is_tested():
    assert EXAMPLE.read_text() in blocks(text_of(ROOT / "export" / "README.md"), "python")


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_readmes_numbers_are_those_of_the_results(path):
    results = generator.read_results(ROOT / "benchmarks" / "results")
    assert generator.fill(text_of(path), results) == text_of(path)


def test_a_number_typed_by_hand_would_be_noticed():
    results = generator.read_results(ROOT / "benchmarks" / "results")
    text = text_of(ROOT / "benchmarks" / "README.md")
    typed = text.replace(" ms |", " ms  |")
    assert typed != text and generator.fill(typed, results) != typed


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 150


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_readme_names_exists(path):
    text = text_of(path)
    for name in re.findall(r"`((?:runtime|export|benchmarks|calibration|tests)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`make (\w+)", text):
        assert f"\n{name}:" in (ROOT / "Makefile").read_text(), name
    for name in re.findall(r"\]\(([^)h#][^)#]*)(?:#[^)]*)?\)", text):
        assert (path.parent / name).exists(), name
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    for anchor in re.findall(r"\]\(#([^)]*)\)", text):
        assert anchor in {title.lower().replace(" ", "-").replace(",", "") for title in titles}
