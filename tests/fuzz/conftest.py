"""More examples on demand, and a record of every test: for `make fuzz`.

`FEREDGE_FUZZ_EXAMPLES` sets the number of examples of each test; `FEREDGE_FUZZ_RECORD` names a file
for the number of calls, the longest call and the outcome of each test; with `--collect-only` for
the names of the tests that generate their inputs.
"""

import json
import os
import time
from functools import wraps
from pathlib import Path

import pytest
from hypothesis import settings

EXAMPLES, RECORD = (os.environ.get(f"FEREDGE_FUZZ_{name}") for name in ("EXAMPLES", "RECORD"))
HERE = Path(__file__).parent
records = {}


def pytest_collection_modifyitems(config, items):
    fuzz = [item for item in items if HERE in item.path.parents
            and hasattr(item.obj, "hypothesis")]
    if RECORD is not None and config.option.collectonly:
        Path(RECORD).write_text(json.dumps([item.nodeid for item in fuzz]))
    if EXAMPLES is None:
        return
    for function in {item.obj for item in fuzz}:
        limits = function._hypothesis_internal_use_settings
        function._hypothesis_internal_use_settings = settings(limits, max_examples=int(EXAMPLES))
        function.hypothesis.inner_test = count_calls(function.hypothesis.inner_test)


def count_calls(test):
    """Return the test with its calls counted and timed; `calls` belongs to the item that runs."""

    @wraps(test)
    def call(*arguments, **values):
        start_s = time.perf_counter()
        try:
            return test(*arguments, **values)
        finally:
            calls.append(time.perf_counter() - start_s)

    return call


calls = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if call.when != "call" or RECORD is None:
        return
    error = call.excinfo
    records[item.nodeid] = {
        "examples": len(calls), "longest_s": max(calls, default=0.0), "outcome": report.outcome,
        "error": None if error is None else f"{error.typename}: {error.value}"[:500],
    }
    calls.clear()
    Path(RECORD).write_text(json.dumps(records))  # after every test: a later one may crash
