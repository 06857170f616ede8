import re
import shlex
import shutil
from pathlib import Path

import pytest

from feredge.export import fer_export
from feredge.runtime.sources.pictures import find_pictures

README = (Path(__file__).parents[2] / "calibration" / "README.md").read_text()


@pytest.fixture
def workplace(tmp_path, exported, faces_48px, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").symlink_to(exported)
    for file in find_pictures(faces_48px)[::200]:
        folder = tmp_path / "labeled" / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    return tmp_path


def test_the_example_compares_int8_with_fp32(workplace, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README", "exec"), {})
    faces, ranges = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d\d faces: agreement (9\d\.\d|100\.0)%, accuracy [6-9]\d\.\d%", faces)
    assert ranges.startswith("percentile-99.999 {'layer1.0.conv1:input': (0.0, ")


def test_the_commands_are_understood():
    commands = re.findall(r"^fer-export (.+)$", README, flags=re.MULTILINE)
    assert commands
    for command in commands:
        fer_export.arguments().parse_args(shlex.split(command))
