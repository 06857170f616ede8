import resource
import signal

import pytest

from feredge.calibration.measure.methods import METHODS
from feredge.calibration.measure.ranges_cache import cache_path, load_ranges, store_ranges
from feredge.calibration.ranges import Ranges

IDENTITY = {"checkpoint_sha256": "ab", "faces": "cd", "crop": {"scale": 1.0}, "input": {"side": 96}}


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_path(IDENTITY)


def ranges():
    values = {"conv1:input": dict.fromkeys(METHODS, (0.0, 1.0))}
    return Ranges("ab", 3, "cd", {"scale": 1.0}, values, method="mse", input={"side": 96})


def test_kept_ranges_come_back(path):
    assert load_ranges(path, ["conv1:input"]) is None
    store_ranges(path, ranges())
    assert load_ranges(path, ["conv1:input"]) == ranges()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("part", IDENTITY)
def test_other_weights_faces_crops_and_inputs_have_other_names(path, part):
    assert cache_path({**IDENTITY, part: "other"}) != path


def test_ranges_that_lack_a_tensor_or_a_method_are_measured_again(path):
    store_ranges(path, ranges())
    assert load_ranges(path, ["conv1:input", "conv2:input"]) is None
    store_ranges(path, Ranges("ab", 3, "cd", {}, {"conv1:input": {"max": (0.0, 1.0)}}))
    assert load_ranges(path, ["conv1:input"]) is None


@pytest.mark.parametrize("content", [b"", b"{\"checkpoint_sha256\": \"ab", b"\xff\xfe"],
                         ids=["empty", "truncated", "not text"])
def test_a_damaged_cache_is_ignored_with_a_warning(path, content):
    store_ranges(path, ranges())
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="ignored, the faces are measured again"):
        assert load_ranges(path, ["conv1:input"]) is None


def test_a_full_disk_is_a_warning_and_leaves_nothing(path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.warns(UserWarning, match="File too large"):
            store_ranges(path, ranges())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(path.parent.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_warning(path, tmp_path):
    (tmp_path / "feredge").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be cached"):
        store_ranges(path, ranges())
