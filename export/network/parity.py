"""The ONNX graph against torch, and the crops that graphs are compared on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.sessions import session_of
from feredge.export.job import ExportJob
from feredge.export.portrait import portrait_face
from feredge.runtime.errors import ExportError
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array
from feredge.runtime.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec

PARITY_BATCHES = (1, 3, 8)
PARITY_LIMIT = 1e-4


def check_parity(job: ExportJob) -> ExportJob:
    """Compare the ONNX graph with torch, and return the job with the difference in its spec.

    Raises:
        ExportError: a probability differs by more than `PARITY_LIMIT`.
    """
    with job.steps.step("compare with torch"):
        crops, origin = parity_crops(job.spec, job.faces)
        difference = max(torch_difference(job, crops, batch) for batch in PARITY_BATCHES)
    if not difference <= PARITY_LIMIT:
        raise ExportError(f"the ONNX graph's probabilities differ from torch's by "
                          f"{difference:.1e}, more than {PARITY_LIMIT:.0e}; nothing was written")
    parity = {"largest_difference": difference, "on": origin, "batches": list(PARITY_BATCHES)}
    return replace(job, spec=replace(job.spec, quality={**job.spec.quality, "parity": parity}))


def torch_difference(job: ExportJob, crops: Array, batch: int) -> float:
    """Return the largest difference of a probability between ONNX and torch in one batch.

    Args:
        job: the export.
        crops: `(n, 3, side, side)` float32, repeated to fill the batch.
        batch: number of faces.
    """
    feed = np.resize(crops, (batch, *crops.shape[1:])).astype(np.float32)
    with torch.inference_mode():
        expected = job.module(torch.from_numpy(feed)).numpy()
    found = session_of(job.model).run([OUTPUT_NAME], {INPUT_NAME: feed})[0]
    return float(np.abs(found - expected).max())


def parity_crops(spec: ModelSpec, faces: FaceFolder | None) -> tuple[Array, str]:
    """Return crops to compare on, `(n, 3, side, side)` float32, and a description of them."""
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
