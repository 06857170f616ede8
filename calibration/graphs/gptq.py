"""Rounding weights one column after the other: each makes up for the errors before it.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023 (arXiv 2210.17323), on convolutions: of a layer's faces it needs the second
moments of its input patches alone. Columns go by falling moment, the paper's "act-order".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from feredge.calibration.graphs.placement import input_of, weight_of
from feredge.calibration.graphs.qdq import nearest
from feredge.calibration.graphs.sessions import session_of
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME

DAMPING = 0.01  # of the mean moment, added to each: the paper's; patches are nearly dependent
BLOCK = 128  # columns whose errors reach the others at once
MOST_COLUMNS = 2304  # moments of more would take 85 MB a layer; such layers round to the nearest
PATCHES = 8192  # a batch's patches that count: the first layers have far more than they need


@dataclass(frozen=True)
class Gptq:
    """A rounding for `cpu_graph` that knows each layer's inputs.

    `factors` maps a convolution's name to what `order_and_factor` makes of its inputs' moments; one
    that is not there is rounded to the nearest.
    """

    factors: Mapping[str, tuple[Array, Array]] = field(repr=False)
    kept: dict[tuple[str, int, bytes], Array] = field(default_factory=dict, repr=False)

    def __call__(self, name: str, weight: Array, scale: Array, largest: int) -> Array:
        """Return the integers, `(out, in, kh, kw)` int8, of a weight on the grid of `scale`.

        They are kept: the accuracy gate builds many graphs of one network.
        """
        if name not in self.factors:
            return nearest(name, weight, scale, largest)
        key = name, largest, scale.tobytes()
        if key not in self.kept:
            columns = weight.reshape(len(weight), -1) / scale[:, None]
            self.kept[key] = gptq_round(columns, *self.factors[name], largest).reshape(weight.shape)
        return self.kept[key]


def gptq_rounding(
    model: ir.Model, convs: Iterable[ir.Node], batches: Iterable[Array]
) -> Gptq:
    """Return the rounding that loses least on faces, for every graph and number of bits.

    Args:
        model: FP32, from `onnx_from_torch`; left as it was.
        convs: its convolutions that will run in INT8.
        batches: `(n, 3, side, side)` float32 crops; 256 faces do.
    """
    moments = input_moments(model, convs, batches)
    return Gptq({name: order_and_factor(second) for name, second in moments.items()})


def order_and_factor(moments: Array) -> tuple[Array, Array]:
    """Return the order of the columns, and the upper Cholesky factor of the inverse moments.

    Args:
        moments: `(k, k)` float32, from `input_moments`.

    Returns:
        `(k,)` indices, and `(k, k)` float32 in their order.
    """
    order = np.argsort(-moments.diagonal(), kind="stable")
    damped = moments[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices_from(damped)] += DAMPING * damped.diagonal().mean() + 1e-12
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    return order, factor


def gptq_round(columns: Array, order: Array, factor: Array, largest: int) -> Array:
    """Return the integers of `(out, k)` weights in units of their scales.

    The error of a column, over the factor's diagonal, is taken off the columns still to come along
    the factor's row (the paper's algorithm 1).
    """
    left = columns[:, order].astype(np.float32)
    chosen = np.empty(left.shape, np.int8)
    for start in range(0, left.shape[1], BLOCK):
        stop = min(start + BLOCK, left.shape[1])
        errors = np.empty((len(left), stop - start), np.float32)
        for k in range(start, stop):
            chosen[:, k] = np.clip(np.rint(left[:, k]), -largest, largest)
            errors[:, k - start] = (left[:, k] - chosen[:, k]) / factor[k, k]
            left[:, k + 1 : stop] -= np.outer(errors[:, k - start], factor[k, k + 1 : stop])
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    integers = np.empty_like(chosen)
    integers[:, order] = chosen
    return integers


def input_moments(
    model: ir.Model, convs: Iterable[ir.Node], batches: Iterable[Array]
) -> dict[str, Array]:
    """Return the second moments of what convolutions read, `(k, k)` float32, k = in * kh * kw.

    Convolutions in groups, dilated ones and those of too many columns are left out; those that
    read the same patches share one array.
    """
    forms = {str(conv.name): patch_form(conv) for conv in convs
             if is_plain(conv) and np.prod(weight_of(conv).shape[1:]) <= MOST_COLUMNS}
    names = sorted({form[0] for form in forms.values()} - {INPUT_NAME})
    session = session_of(model, extra_outputs=names)
    random = np.random.default_rng(0)
    totals: dict[tuple[str, Form], Array] = {}
    for crops in batches:
        tensors = {INPUT_NAME: crops, **dict(zip(names, session.run(names, {INPUT_NAME: crops})))}
        for source, form in dict.fromkeys(forms.values()):
            rows = patches(tensors[source], form)
            few = random.permutation(len(rows))[:PATCHES]
            moments = rows[few].T @ rows[few] * (len(crops) / len(few))
            totals[source, form] = totals.get((source, form), np.float32(0)) + moments
    return {name: totals[key] for name, key in forms.items()}


Form = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def is_plain(conv: ir.Node) -> bool:
    """Tell whether every output of a convolution reads all channels of one dense patch."""
    dilations = conv.attributes.get_ints("dilations", (1, 1))
    return conv.attributes.get_int("group", 1) == 1 and set(dilations) == {1}


def patch_form(conv: ir.Node) -> tuple[str, Form]:
    """Return what a convolution reads: a tensor; kernel, strides and pads of its patches."""
    return str(input_of(conv).name), (
        weight_of(conv).shape[2:], tuple(conv.attributes.get_ints("strides", (1, 1))),
        tuple(conv.attributes.get_ints("pads", (0, 0, 0, 0))))


def patches(maps: Array, form: Form) -> Array:
    """Cut `(n, c, h, w)` into `(positions, c * kh * kw)`, what a convolution multiplies."""
    kernel, strides, (top, left, bottom, right) = form
    padded = np.pad(maps, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    chosen = windows[:, :, :: strides[0], :: strides[1]].transpose(0, 2, 3, 1, 4, 5)
    rows: Array = chosen.reshape(-1, maps.shape[1] * int(np.prod(kernel)))
    return rows
