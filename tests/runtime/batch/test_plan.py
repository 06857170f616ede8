import subprocess
import sys

import pytest

pytest.importorskip("pyarrow", reason="the extra batch is not installed")

from feredge.runtime.batch import plan as plan_module
from feredge.runtime.batch.plan import Plan
from feredge.runtime.batch.run import finished_chunks
from feredge.runtime.batch.storage import OutputFolder


def inputs(count, first=0):
    return (("pictures", f"/pictures/{k:07}.jpg") for k in range(first, count))


@pytest.fixture
def plan(tmp_path):
    return Plan(OutputFolder(str(tmp_path / "out")))


def test_every_unit_is_in_one_chunk(plan, monkeypatch):
    monkeypatch.setattr(plan_module, "FILE_UNITS", 1000)
    assert plan.add(inputs(2500), 512) == 2500
    assert plan.files() == ["00000.parquet", "00001.parquet", "00002.parquet"]
    units = [unit for task in plan.tasks(set()) for unit in task.units]
    assert units == [unit for _, unit in inputs(2500)]


def test_chunks_are_named_by_their_content(tmp_path):
    names = []
    for folder in ("one", "two"):
        plan = Plan(OutputFolder(str(tmp_path / folder)))
        plan.add(inputs(100), 10)
        names.append([task.chunk for task in plan.tasks(set())])
    assert names[0] == names[1] and len(set(names[0])) == len(names[0])


def test_new_inputs_are_a_file_of_their_own(plan):
    plan.add(inputs(100), 10)
    first = [task.chunk for task in plan.tasks(set())]
    assert plan.add(inputs(110), 10) == 10
    tasks = list(plan.tasks(set()))
    assert [task.chunk for task in tasks[: len(first)]] == first
    assert [unit for task in tasks[len(first) :] for unit in task.units] == [
        unit for _, unit in inputs(110, 100)]
    assert plan.add(inputs(110), 10) == 0


def test_finished_chunks_are_skipped(plan):
    plan.add(inputs(100), 10)
    chunks = [task.chunk for task in plan.tasks(set())]
    remaining = plan.remaining(set(chunks[1:]))
    assert (remaining.chunks, remaining.units) == (1, 8)
    assert [task.chunk for task in plan.tasks(set(chunks[1:]))] == chunks[:1]


def test_small_inputs_are_divided_and_large_ones_fill_their_chunks(plan):
    plan.add(inputs(60), 512)
    assert [len(task.units) for task in plan.tasks(set())] == [8] * 7 + [4]
    plan.add(inputs(50_060, 60), 512)
    assert max(len(task.units) for task in plan.tasks(set())) == 512


def test_videos_are_chunks_of_their_own(plan):
    plan.add([("pictures", "1.jpg"), ("video", "1.mp4"), ("video", "2.mp4")], 512)
    assert [(task.kind, task.units) for task in plan.tasks(set())] == [
        ("pictures", ("1.jpg",)), ("video", ("1.mp4",)), ("video", ("2.mp4",))]


MEMORY = """
import re, sys
from feredge.runtime.batch.plan import Plan
from feredge.runtime.batch.run import finished_chunks
from feredge.runtime.batch.storage import OutputFolder

plan = Plan(OutputFolder(sys.argv[1]))
inputs = (("pictures", f"s3://bucket/some/longer/folder/{k:012}.jpg") for k in range(10**6))
assert plan.add(inputs, 512) == 10**6
assert plan.remaining(set()).units == sum(len(task.units) for task in plan.tasks(set()))
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.slow
def test_a_plan_of_a_million_paths_takes_less_than_a_gigabyte(tmp_path):
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1000
    print(done.stdout)


def test_a_name_that_is_not_utf8_is_skipped_with_a_warning(plan):
    with pytest.warns(UserWarning, match="its name is not UTF-8; rename it"):
        assert plan.add([("pictures", "/a/\udcff.jpg"), ("pictures", "/a/b.jpg")], 10) == 1
    assert [unit for task in plan.tasks(set()) for unit in task.units] == ["/a/b.jpg"]


def test_a_foreign_parquet_file_beside_the_chunks_is_no_chunk(tmp_path):
    (tmp_path / "paths.parquet").write_bytes(b"PAR1")
    (tmp_path / f"{'0a' * 16}.parquet").write_bytes(b"PAR1")
    assert finished_chunks(OutputFolder(str(tmp_path))) == {"0a" * 16}
