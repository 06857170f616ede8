"""The commands and the example of the room's README are understood, and the example runs."""

import re
import shlex
from pathlib import Path

import pytest

from feredge.benchmarks import fer_bench, fer_eval

ROOT = Path(__file__).parents[2]
README = (ROOT / "benchmarks" / "README.md").read_text()
COMMANDS = {"fer-bench": fer_bench, "fer-eval": fer_eval}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines()])
def test_the_commands_are_understood(line):
    name, *words = shlex.split(line)
    COMMANDS[name].arguments().parse_args(words)


def test_every_option_that_the_readme_names_exists():
    known = {option for module in COMMANDS.values()
             for action in module.arguments()._actions for option in action.option_strings}
    named = set(re.findall(r"`(--[a-z-]+)", README.split("## Measure again")[0]))
    assert len(named) > 8 and named <= known


def test_the_example_evaluates_and_times(exported, faces_48px, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").symlink_to(exported)
    for folder in ("1_happiness", "4_anger"):
        (tmp_path / "labeled" / folder).mkdir(parents=True)
        for file in sorted((faces_48px / folder).iterdir())[:10]:
            (tmp_path / "labeled" / folder / file.name).symlink_to(file)
    (example,) = blocks("python")
    exec(compile(example, "README", "exec"), {})
    printed = capsys.readouterr().out
    assert re.match(r"accuracy \d+\.\d%, INT8 \d+\.\d%\nspeed-up of INT8 \d", printed)
