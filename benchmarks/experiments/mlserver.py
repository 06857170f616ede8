"""The KServe v2 client against MLServer: predictions of a served network and of the local one.

Usage: `python -m feredge.benchmarks.experiments.mlserver --python VENV/bin/python
[--engine ENGINE] [--json FILE]`

MLServer needs packages of 400 MB, so that it runs in an environment of its own:
`python -m venv VENV; VENV/bin/pip install mlserver onnxruntime`. It serves the ONNX file with a
runtime of ten lines, and the client sends it random crops.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from feredge.benchmarks.experiments.command import Experiment, Results
from feredge.benchmarks.experiments.processes import free_port, wait_for_port
from feredge.runtime.engines import BUNDLED, Engine, open_engine
from feredge.runtime.errors import EngineError
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

MODEL, FACES, LOAD_S = "manet", 50, 60.0
RUNTIME = f"""
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class OnnxRuntime(MLModel):
    async def load(self):
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        faces = NumpyCodec.decode_input(payload.inputs[0])
        (found,) = self.session.run(["{OUTPUT_NAME}"], {{"{INPUT_NAME}": faces}})
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("{OUTPUT_NAME}", found)])
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this experiment."""
    parser.add_argument("--python", required=True, metavar="PATH",
                        help="the Python of an environment with mlserver and onnxruntime")
    parser.add_argument("--engine", type=Path, default=BUNDLED, metavar="PATH",
                        help="an ONNX file (the bundled network)")


def write_server(folder: Path, engine: Path, spec: ModelSpec) -> int:
    """Write MLServer's files and the ModelSpec; returns the gRPC port."""
    port, side = free_port(), spec.input.side
    (folder / "onnx_runtime.py").write_text(RUNTIME)
    (folder / "feredge.json").write_text(spec.to_json())
    tensors = {"inputs": (INPUT_NAME, [-1, 3, side, side]),
               "outputs": (OUTPUT_NAME, [-1, len(spec.labels)])}
    (folder / "model-settings.json").write_text(json.dumps({
        "name": MODEL, "implementation": "onnx_runtime.OnnxRuntime",
        "parameters": {"uri": str(engine.absolute())},
        **{kind: [{"name": name, "datatype": "FP32", "shape": shape}]
           for kind, (name, shape) in tensors.items()}}))
    (folder / "settings.json").write_text(json.dumps({
        "host": "127.0.0.1", "grpc_port": port, "http_port": free_port(),
        "metrics_port": free_port(), "parallel_workers": 0, "grpc_max_message_length": -1}))
    return port


@contextmanager
def run_server(python: str, engine: Path, spec: ModelSpec) -> Iterator[str]:
    """Run MLServer with a network; yields the address for `open_engine`."""
    with tempfile.TemporaryDirectory() as name:
        port = write_server(Path(name), engine, spec)
        command = [str(Path(python).with_name("mlserver")), "start", "."]
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": name}
        server = subprocess.Popen(command, cwd=name, env=environment, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        try:
            wait_for_port(port)
            yield f"triton://127.0.0.1:{port}/{MODEL}?spec={name}/feredge.json"
        finally:
            server.terminate()
            server.wait()


def open_when_loaded(address: str) -> Engine:
    """Open the served network; the server answers before it has loaded it.

    Raises:
        EngineError: it is not loaded in a minute.
    """
    deadline_s = time.monotonic() + LOAD_S
    while True:
        try:
            return open_engine(address)
        except EngineError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.5)


def version_of(python: str) -> str:
    """Return the version of MLServer."""
    code = "from importlib.metadata import version; print(version('mlserver'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def measure(options: argparse.Namespace) -> Results:
    """Classify the same random crops here and on the server."""
    with open_engine(options.engine) as local:
        side = local.spec.input.side
        crops = np.random.default_rng(0).normal(size=(FACES, 3, side, side)).astype(np.float32)
        expected = local.infer(crops)
        with run_server(options.python, options.engine, local.spec) as address, \
                open_when_loaded(address) as served:
            found = served.infer(crops)
            return {"mlserver": version_of(options.python), "faces": FACES,
                    "max_batch": served.max_batch,
                    "largest_difference": float(np.abs(found - expected).max()),
                    "same_labels": int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())}


def describe(results: Results) -> str:
    """Return the results as text."""
    return (f"MLServer {results['mlserver']}: {results['same_labels']} of {results['faces']} "
            "labels are those of the local network, largest difference of a probability "
            f"{results['largest_difference']:.1e}, batches of {results['max_batch']}")


EXPERIMENT = Experiment(__doc__, add_arguments, measure, describe)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
