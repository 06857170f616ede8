"""Histograms of the activations that INT8 quantizes, from faces run through the FP32 graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from feredge.calibration.graphs.placement import keyed_values
from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.measure.histograms import Histogram
from feredge.runtime.errors import CalibrationError
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME

CHUNK_BYTES = 128 << 20  # of activations at a time: at 224 px and full width some two faces'


class Activations:
    """Runs faces through an FP32 graph and counts every tensor that an INT8 graph quantizes.

    Args:
        model: FP32, from `onnx_from_torch`; not changed.
        convs: its convolutions that will run in INT8.
    """

    def __init__(self, model: ir.Model, convs: Sequence[ir.Node]) -> None:
        self.names = {key: str(value.name)
                      for key, value in keyed_values(model.graph, convs).items()}
        self.fetched = [name for name in self.names.values() if name != INPUT_NAME]
        self.session = session_of(model, extra_outputs=self.fetched)
        self.faces_at_once = 1  # until the size of the first one's activations is known

    def histograms(self) -> dict[str, Histogram]:
        """Return an empty histogram per tensor."""
        return {key: Histogram() for key in self.names}

    def add(self, crops: Array, histograms: dict[str, Histogram]) -> None:
        """Count the activations of `(n, 3, side, side)` float32 crops.

        Raises:
            CalibrationError: one is not finite.
        """
        start = 0
        while start < len(crops):
            part = crops[start : start + self.faces_at_once]
            start += len(part)
            tensors = dict(zip(self.fetched, self.session.run(self.fetched, {INPUT_NAME: part})))
            tensors[INPUT_NAME] = part
            for key, name in self.names.items():
                histograms[key].add(tensors[name])
                check_finite(key, histograms[key])
            size = sum(tensor.nbytes for tensor in tensors.values()) // len(part)
            self.faces_at_once = max(1, CHUNK_BYTES // size)


def check_finite(key: str, histogram: Histogram) -> None:
    """Refuse activations that no range can hold.

    Raises:
        CalibrationError: one is infinite or NaN.
    """
    if math.isnan(histogram.low):
        raise CalibrationError(f"{key} is not finite on these faces: the checkpoint is damaged, "
                               "or its normalization does not fit")
