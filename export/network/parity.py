"""The ONNX graph against torch, and the crops that graphs are compared on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import torch

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.sessions import session_of
from feredge.export.portrait import portrait_face
from feredge.export.steps import Steps
from feredge.runtime.errors import ExportError
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

PARITY_BATCHES = (1, 3, 8)
PARITY_LIMIT = 1e-4


def with_parity(
    module: torch.nn.Module, model: ir.Model, spec: ModelSpec, faces: FaceFolder | None,
    steps: Steps,
) -> ModelSpec:
    """Compare the ONNX graph with torch, and return the spec that says how far they are apart.

    Raises:
        ExportError: a probability differs by more than `PARITY_LIMIT`.
    """
    with steps.step("compare with torch"):
        crops, origin = parity_crops(spec, faces)
        session = session_of(model)
        difference = 0.0
        for batch in PARITY_BATCHES:
            feed = np.resize(crops, (batch, *crops.shape[1:])).astype(np.float32)
            with torch.inference_mode():
                expected = module(torch.from_numpy(feed)).numpy()
            got = session.run([OUTPUT_NAME], {INPUT_NAME: feed})[0]
            difference = max(difference, float(np.abs(got - expected).max()))
    if not difference <= PARITY_LIMIT:
        raise ExportError(f"the ONNX graph's probabilities differ from torch's by "
                          f"{difference:.1e}, more than {PARITY_LIMIT:.0e}; nothing was written")
    parity = {"largest_difference": difference, "on": origin, "batches": list(PARITY_BATCHES)}
    return replace(spec, quality={**spec.quality, "parity": parity})


def parity_crops(spec: ModelSpec, faces: FaceFolder | None) -> tuple[Array, str]:
    """Return crops to compare on, and what they are."""
    if faces is not None:
        return next(faces.batches())[: max(PARITY_BATCHES)], f"faces of {faces.folder.name}"
    side = spec.input.side
    noise = np.random.default_rng(0).random((7, 3, side, side), np.float32)
    mean, std = (np.array(values, np.float32)[:, None, None]
                 for values in (spec.input.mean, spec.input.std))
    seeded = (noise - mean) / std
    portrait = portrait_face()
    if portrait is None:
        return seeded, "seeded noise"
    face = crop_faces(*portrait, spec.input, spec.crop)
    return np.concatenate([face, seeded]), "a portrait and seeded noise"
