"""The README of the runtime: its examples run, its commands parse, its table has every option."""

import re
import shlex
import shutil
from pathlib import Path

import cv2
import pytest

from feredge.runtime import fer_run

ROOM = Path(fer_run.__file__).parents[0]
README = (ROOM / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
            for line in block.splitlines() if line.startswith("fer-run")]
LIVE = {"--camera", "--serve", "--publish"}  # what a test does not have: parsed, not run


@pytest.fixture
def folder(tmp_path, exported, astronaut, write_clip, monkeypatch):
    """The files that the examples name, in the current folder."""
    shutil.copy(exported / "manet.int8.onnx", tmp_path)
    cv2.imwrite(str(tmp_path / "people.jpg"), astronaut)
    write_clip([cv2.resize(astronaut, (320, 320))] * 8, "clip.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_and_finds_the_face(folder, capsys, number):
    exec(compile(EXAMPLES[number], f"example {number + 1}", "exec"), {"__name__": "example"})
    out = capsys.readouterr().out
    assert re.search(r"happiness|8 8 \(\)|\] \(\d+, \d+, 3\)", out), out


def test_there_are_five_examples():
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_is_understood(words):
    fer_run.arguments().parse_args(words[1:])


@pytest.mark.parametrize("words", [words for words in COMMANDS if not LIVE & set(words)
                                   and "rtsp:" not in " ".join(words)], ids=" ".join)
def test_a_command_on_files_runs(folder, exported, capfd, words):
    (folder / "exported").symlink_to(exported)
    (folder / "album").mkdir()
    shutil.copy("people.jpg", "album")
    assert fer_run.main(words[1:]) == 0
    for option in ("--output", "--jsonl", "--csv", "--summary"):
        assert option not in words or Path(words[words.index(option) + 1]).exists()


def test_the_table_has_every_option():
    table = README[: README.index("```sh")]
    strings = [name for action in fer_run.arguments()._actions for name in action.option_strings]
    options = {option for option in strings
               if (option.startswith("--") and not option.startswith("--no-"))
               or option == "--no-images"}
    missing = {option for option in options - {"--help"} if not re.search(rf"`{option}\b", table)}
    assert not missing


def test_a_frame_becomes_a_label_within_eleven_files_and_1600_lines():
    walk = README[README.index("## How a frame becomes a label"):]
    files = re.findall(r"^\| `([\w/]+\.py)`", walk, flags=re.MULTILINE)
    assert 8 <= len(files) <= 11
    assert sum(len((ROOM / file).read_text().splitlines()) for file in files) <= 1600
