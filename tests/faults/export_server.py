"""Start whole exports of a tiny network on request, each in a process that may be killed.

Run by a test. Every line of standard input is a folder; the reply is the id of the process that
exports into it. An empty line waits for that process; the reply is its exit code. What takes
seconds, the imports and a first export, is done once, in this process.
"""

import os
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / "export"))

from feredge.export.fer_export import main

WORDS = ("--model", "tiny_network:tiny", "--random-weights", "--target", "onnx")


def export(folder: str) -> int:
    """Export into a folder, printing nothing that the test would read."""
    with open(os.devnull, "w") as nothing:
        sys.stdout = nothing
        code = main([*WORDS, "--output", folder])
    sys.stdout = sys.__stdout__
    return code


torch.set_num_threads(1)  # a process with threads cannot be forked
print(export(sys.argv[1]), flush=True)
process = 0
for line in sys.stdin:
    folder = line.strip()
    if folder:
        process = os.fork()
        if not process:
            os._exit(export(folder))
        print(process, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
