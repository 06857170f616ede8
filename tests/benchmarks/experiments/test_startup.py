"""Start-up: what Python's own trace of imports is read as."""

import subprocess
import sys

import cv2
import numpy as np

from feredge.benchmarks.experiments.startup import TOP, parse_trace

TRACE = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |     json.decoder
import time:      2500 |       2600 |   json
fer-run: something else on the same stream
import time:     90000 |      92600 | cv2
"""


def test_the_costliest_modules_come_first_without_what_they_import():
    assert list(parse_trace(TRACE).items()) == [("cv2", 90.0), ("json", 2.5), ("json.decoder", 0.1)]
    many = "".join(f"import time: {k} | {k} | m{k}\n" for k in range(50))
    assert len(parse_trace(many)) == TOP and "m49" in parse_trace(many)


def test_a_picture_loads_no_slow_module_that_it_does_not_need(tmp_path):
    picture = tmp_path / "gray.png"
    cv2.imwrite(str(picture), np.full((64, 64, 3), 128, np.uint8))
    code = ("import sys\nfrom feredge.runtime.fer_run import main\n"
            f"assert main(['--source', {str(picture)!r}, '--jsonl', '-']) == 0\n"
            "print({'numpy.ma', 'importlib.metadata', 'hashlib', 'urllib.request'} "
            "& set(sys.modules), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "set()"
