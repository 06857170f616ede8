"""Start-up: what Python's own trace of imports is read as."""

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
