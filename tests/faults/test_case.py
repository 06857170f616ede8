"""Inputs and outputs on a file system that ignores the case of names, as SD cards and Macs do."""

import cv2
import pytest

from feredge.export.staging import check_inputs
from feredge.runtime import fer_run
from feredge.runtime.errors import UsageError
from feredge.runtime.files import check_outputs_apart


@pytest.mark.parametrize("output, source", [
    ("A.JPG", "a.jpg"), ("ALBUM", "album"), ("Album/New", "album"), ("album/B.jpg", "album/b.jpg")])
def test_another_case_of_an_input_is_the_input(exfat, output, source):
    (exfat / "album").mkdir()
    for name in ("a.jpg", "album/b.jpg"):
        (exfat / name).write_bytes(b"content")
    with pytest.raises(UsageError, match="would overwrite `source`"):
        check_outputs_apart({"output": exfat / output}, [("source", exfat / source)])
    check_outputs_apart({"output": exfat / "other.jpg"}, [("source", exfat / source)])


def test_two_outputs_that_differ_in_case_are_one_file(exfat):
    with pytest.raises(UsageError, match="is also written by `jsonl`"):
        check_outputs_apart({"jsonl": exfat / "new/x.txt", "csv": exfat / "New/X.TXT"}, [])


def test_a_run_keeps_a_source_that_is_named_in_another_case(exfat, astronaut, capfd):
    cv2.imwrite(str(exfat / "people.jpg"), astronaut)
    before = (exfat / "people.jpg").read_bytes()
    assert fer_run.main(["--source", str(exfat / "people.jpg"),
                         "--output", str(exfat / "People.jpg")]) == 2
    assert "would overwrite" in capfd.readouterr().err
    assert (exfat / "people.jpg").read_bytes() == before


def test_an_export_keeps_a_checkpoint_that_is_named_in_another_case(exfat):
    (exfat / "Mine.onnx").write_bytes(b"weights")
    with pytest.raises(UsageError, match="would replace"):
        check_inputs(exfat, ["mine.onnx"], [str(exfat / "Mine.onnx")], [])
