"""GPTQ: weights are rounded column by column, each one compensating the errors before it.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023 (arXiv 2210.17323), for convolutions: of the faces it needs only the second
moments of a layer's input patches. Columns are taken by falling moment, the paper's "act-order".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from feredge.calibration.graphs.placement import input_of, weight_of
from feredge.calibration.graphs.qdq import round_to_nearest
from feredge.calibration.graphs.sessions import session_of
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME

DAMPING = 0.01  # of the mean moment, added to each: the paper's; patches are nearly dependent
MOST_DAMPING = 1e4  # with which nothing is left of the moments: such a layer rounds to nearest
BLOCK = 128  # columns whose errors are passed on together
MOST_COLUMNS = 2304  # second moments of more would take 85 MB a layer; these round to nearest
PATCHES = 8192  # per batch; the first layers have far more patches than needed


@dataclass(frozen=True)
class Gptq:
    """A rounding for `cpu_graph` that uses the second moments of each layer's input.

    Attributes:
        factors: by convolution, from `order_and_factor`; a convolution without rounds to nearest.
        damping: of the layers that needed more than `DAMPING`; inf where none sufficed.
        kept: integers by layer, for the many graphs of one network that the accuracy gate builds.
    """

    factors: Mapping[str, tuple[Array, Array]] = field(repr=False)
    damping: Mapping[str, float] = field(default_factory=dict)
    kept: dict[tuple[str, int, bytes], Array] = field(default_factory=dict, repr=False)

    def damping_text(self) -> str:
        """Return a line on the layers that needed more damping; empty where none did."""
        more = [f"{name} ({value:g})" for name, value in self.damping.items() if np.isfinite(value)]
        none = [name for name, value in self.damping.items() if np.isinf(value)]
        parts = [f"GPTQ needed more damping than {DAMPING:g} in {', '.join(more)}"] if more else []
        parts += [f"weights are rounded to nearest in {', '.join(none)}"] if none else []
        return "; ".join(parts)

    def __call__(self, name: str, weight: Array, scale: Array, largest: int) -> Array:
        """Return the integers of a weight, `(out, in, kh, kw)` int8; see `nearest`."""
        if name not in self.factors:
            return round_to_nearest(name, weight, scale, largest)
        key = name, largest, scale.tobytes()
        if key not in self.kept:
            columns = weight.reshape(len(weight), -1) / scale[:, None]
            integers = gptq_round(columns, *self.factors[name], largest)
            self.kept[key] = integers.reshape(weight.shape)
        return self.kept[key]


def gptq_rounding(
    model: ir.Model, convs: Iterable[ir.Node], batches: Iterable[Array]
) -> Gptq:
    """Return the rounding with the least output error on faces, for any graph and bit width.

    Args:
        model: FP32, from `onnx_from_torch`; not changed.
        convs: its convolutions that will run in INT8.
        batches: `(n, 3, side, side)` float32 crops; 256 faces are enough.
    """
    moments = input_moments(model, convs, batches)
    found = {name: order_and_factor(second) for name, second in moments.items()}
    factors = {name: (order, factor) for name, (order, factor, _) in found.items()
               if factor is not None}
    return Gptq(factors, {name: damping for name, (_, _, damping) in found.items()
                          if damping > DAMPING})


def order_and_factor(moments: Array) -> tuple[Array, Array | None, float]:
    """Return the order of the columns, and the upper Cholesky factor of the inverse moments.

    The damping grows tenfold until the factor exists: moments of few or uniform faces are nearly
    singular.

    Args:
        moments: `(k, k)` float32, from `input_moments`.

    Returns:
        `(k,)` indices, `(k, k)` float32 in their order, and the damping; None and inf where no
        damping suffices, as for moments that are not finite.
    """
    order = np.argsort(-moments.diagonal(), kind="stable")
    ordered = moments[np.ix_(order, order)].astype(np.float64)
    damping = DAMPING
    while damping <= MOST_DAMPING:
        factor = inverse_factor(ordered, damping)
        if factor is not None:
            return order, factor, damping
        damping *= 10
    return order, None, float("inf")


def inverse_factor(moments: Array, damping: float) -> Array | None:
    """Return the upper Cholesky factor, `(k, k)` float32, of inverse damped moments, or None."""
    damped = moments.copy()
    damped[np.diag_indices_from(damped)] += damping * damped.diagonal().mean() + 1e-12
    try:
        factor: Array = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    except np.linalg.LinAlgError:
        return None
    return factor if np.isfinite(factor).all() and factor.diagonal().all() else None


def gptq_round(columns: Array, order: Array, factor: Array, largest: int) -> Array:
    """Return the integers, `(out, k)` int8, of `(out, k)` weights in units of their scales.

    The error of a column, divided by the factor's diagonal, is subtracted from the following
    columns along the factor's row (the paper's algorithm 1).
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
    """Return the second moments of convolution inputs, `(k, k)` float32, k = in * kh * kw.

    Grouped and dilated convolutions and those with too many columns are not included;
    convolutions that read the same patches share one array.
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
    """Return whether every output of a convolution reads all channels of one dense patch."""
    dilations = conv.attributes.get_ints("dilations", (1, 1))
    return conv.attributes.get_int("group", 1) == 1 and set(dilations) == {1}


def patch_form(conv: ir.Node) -> tuple[str, Form]:
    """Return the tensor that a convolution reads; kernel, strides and pads of its patches."""
    return str(input_of(conv).name), (
        weight_of(conv).shape[2:], tuple(conv.attributes.get_ints("strides", (1, 1))),
        tuple(conv.attributes.get_ints("pads", (0, 0, 0, 0))))


def patches(maps: Array, form: Form) -> Array:
    """Cut `(n, c, h, w)` into the patches of a convolution, `(positions, c * kh * kw)`."""
    kernel, strides, (top, left, bottom, right) = form
    padded = np.pad(maps, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    chosen = windows[:, :, :: strides[0], :: strides[1]].transpose(0, 2, 3, 1, 4, 5)
    rows: Array = chosen.reshape(-1, maps.shape[1] * int(np.prod(kernel)))
    return rows
