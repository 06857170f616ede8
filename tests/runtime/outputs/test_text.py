"""Text outputs: full disks, closed pipes, names with control characters, formulas."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest

from feredge.runtime.errors import OutputError
from feredge.runtime.outputs.base import escape
from feredge.runtime.outputs.closing import Outputs
from feredge.runtime.outputs.terminal import Text
from feredge.runtime.outputs.text import Csv, JsonLines
from feredge.runtime.results import Faces, Frame, FrameResult

LABELS = ("=SUM(A1)", "happiness")
NAMES = ("caf\udce9.jpg", "a\nb.jpg", "x\x1b[31m.jpg", "\u202egpj.exe", "line\u2028break", "a\x85b")


def result(source):
    faces = Faces.from_detections(np.array([[-3, 10, 50, 60]]), np.zeros((1, 5, 2)), np.ones(1))
    found = FrameResult(Frame(0, np.zeros((8, 8, 3), np.uint8), source))
    probabilities = np.array([[0.8, 0.2]], np.float32)
    found.faces = faces.with_probabilities(probabilities)
    return found


USER = """
import os, sys
from feredge.runtime.outputs.text import JsonLines
from feredge.runtime.results import Faces, Frame, FrameResult
if os.geteuid() == 0:
    os.setuid(65534)
readable, writable = os.pipe()  # of this user, as a shell's pipe is
os.dup2(writable, 1)
output = JsonLines(sys.argv[1], ("happiness",))
output.write(FrameResult(Frame(0, None, "a.jpg"), faces=Faces.empty()))
output.close()
sys.stderr.write(os.read(readable, 1 << 16).decode())
"""


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"])
def test_a_user_without_permission_in_dev_writes_to_standard_output(name):
    done = subprocess.run([sys.executable, "-c", USER, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr)["source"] == "a.jpg"


def rows_of(path):
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "=cmd|' /C'!A0"])
def test_no_cell_of_a_csv_is_a_formula_and_numbers_stay_numbers(tmp_path, name):
    output = Csv(str(tmp_path / "faces.csv"), LABELS)
    output.write(result(name))
    output.close()
    head, row = rows_of(tmp_path / "faces.csv")
    assert head[10] == "'=SUM(A1)" and row[9] == "'=SUM(A1)"
    assert row[1] == "'" + escape(name) and row[4] == "-3.0"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_line_of_text_in_every_output(tmp_path, name, monkeypatch):
    lines = JsonLines(str(tmp_path / "f.jsonl"), LABELS)
    table = Csv(str(tmp_path / "f.csv"), LABELS)
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    monkeypatch.setattr(sys, "stdout", stdout)
    for output in (lines, table, Text(LABELS)):
        output.write(result(name))
        output.close()
    text = (tmp_path / "f.jsonl").read_text(encoding="utf-8")
    assert text.count("\n") == 1 and json.loads(text)["source"].encode()
    assert len((tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()) == 2
    stdout.flush()
    assert len(stdout.buffer.getvalue().decode("ascii").splitlines()) == 1


@pytest.mark.parametrize("kind", [JsonLines, Csv])
def test_a_full_disk_is_one_line_and_stays_the_first_error(kind, caplog):
    with pytest.raises(OutputError, match="/dev/full cannot be written: No space left") as error, \
            Outputs() as outputs:
        outputs.plain.append(kind("/dev/full", LABELS))
        outputs.plain[0].write(result("x"))
    assert "\n" not in str(error.value)


def test_the_reader_of_a_pipe_that_ends_is_no_output_error(monkeypatch):
    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        JsonLines("-", LABELS).write(result("x"))


def test_a_closed_standard_output_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="standard output is closed"):
        JsonLines("-", LABELS)


class Broken:
    """An output whose `close` fails."""

    def __init__(self, error):
        self.error, self.closed = error, False

    def write(self, result):
        pass

    def close(self):
        self.closed = True
        raise self.error


def test_an_error_of_close_never_hides_the_first_error_and_all_outputs_are_closed(caplog):
    outputs = [Broken(OutputError("second")), Broken(OSError(5, "third")), Broken(OutputError("x"))]
    with pytest.raises(OutputError, match="first"), Outputs(outputs):
        raise OutputError("first")
    assert all(output.closed for output in outputs)
    assert "second" in caplog.text and "third" in caplog.text
    with pytest.raises(OutputError, match="second"), Outputs(outputs):
        pass
