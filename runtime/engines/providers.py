"""onnxruntime's execution providers: names, what is tested, and a check against the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from feredge.runtime.environment import load_onnxruntime
from feredge.runtime.errors import UsageError
from feredge.runtime.logs import logger
from feredge.runtime.results import Array

CPU = "cpu"
CHECKED_FACES = 16
MAX_DIFFERENCE = 0.05  # of a probability: what INT8 kernels of another kind stay within


@dataclass(frozen=True)
class Provider:
    """An execution provider.

    Attributes:
        name: onnxruntime's.
        package: what installs an onnxruntime that has it.
        tested: on what it was tested; None: on nothing.
    """

    name: str
    package: str
    tested: str | None = None


PROVIDERS = {
    CPU: Provider("CPUExecutionProvider", "onnxruntime", "x86-64 and aarch64, by every test"),
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino",
                         "1.24.1 on an x86-64 CPU"),
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": Provider("TensorrtExecutionProvider", "onnxruntime-gpu"),
    "tensorrt-rtx": Provider("NvTensorRTRTXExecutionProvider",
                             "a build with --use_nv_tensorrt_rtx"),
    "xnnpack": Provider("XnnpackExecutionProvider", "a build with --use_xnnpack"),
    "qnn": Provider("QNNExecutionProvider", "onnxruntime-qnn"),
}


def available_providers() -> list[str]:
    """Return the names in `PROVIDERS` of what the installed onnxruntime has."""
    found = load_onnxruntime().get_available_providers()
    return [name for name, provider in PROVIDERS.items() if provider.name in found]


def find_provider(name: str) -> Provider:
    """Return a provider that the installed onnxruntime has.

    Raises:
        UsageError: it is unknown, or the installed package does not have it.
    """
    available = available_providers()
    if name in available:
        return PROVIDERS[name]
    has = f"the installed onnxruntime has: {', '.join(available)}"
    if name not in PROVIDERS:
        raise UsageError(f"`provider` {name!r} is unknown; {has}")
    raise UsageError(f"`provider` {name} is not available; {has}; it comes with: "
                     f"{PROVIDERS[name].package}")


class ParityCheck:
    """Compares the first predictions of a provider with the CPU's, and logs one line.

    Args:
        name: the provider.
        infer: classifies crops on the CPU.
    """

    def __init__(self, name: str, infer: Callable[[Array], Array]) -> None:
        self.name = name
        self.infer: Callable[[Array], Array] | None = infer
        self.faces = self.same = 0
        self.difference = 0.0
        self.lock = threading.Lock()

    def add(self, crops: Array, predictions: Array) -> None:
        """Compare predictions, `(n, classes)`, until there are enough; several threads may call it.

        Args:
            crops: `(n, 3, side, side)` float32.
            predictions: the provider's.
        """
        with self.lock:
            if self.infer is None:
                return
            expected = self.infer(crops)
            self.faces += len(crops)
            self.same += int((expected.argmax(axis=1) == predictions.argmax(axis=1)).sum())
            self.difference = max(self.difference, float(np.abs(expected - predictions).max()))
            if self.faces >= CHECKED_FACES:
                self._report()

    def close(self) -> None:
        """Report on fewer faces, if the run ends before there were enough."""
        with self.lock:
            self._report()

    def _report(self) -> None:
        """Log the result, once, and free the CPU's network."""
        if self.infer is not None and self.faces:
            is_same = self.same == self.faces and self.difference <= MAX_DIFFERENCE
            log, verdict = (logger.info, "agrees with") if is_same else (
                logger.warning, "differs from")
            log("provider %s %s the CPU: top-1 agreement on %d of %d faces, largest difference of "
                "a probability %.4f (limit %.2f)", self.name, verdict, self.same, self.faces,
                self.difference, MAX_DIFFERENCE)
        self.infer = None
