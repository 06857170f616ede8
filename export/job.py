"""One export in progress: what its steps share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import torch

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.quality.limits import Limits
from feredge.export.models.registry import Network
from feredge.export.options import ExportOptions
from feredge.export.steps import Steps
from feredge.runtime.spec import ModelSpec


@dataclass(frozen=True)
class ExportJob:
    """A network as torch and as ONNX with its spec, the faces it is calibrated on, and its files.

    `folder` is where files are written before all of them move to the output folder, `name` what
    they are called. `faces` is None where no calibration data was given.
    """

    options: ExportOptions
    network: Network
    module: torch.nn.Module
    model: ir.Model
    spec: ModelSpec
    faces: FaceFolder | None
    limits: Limits
    folder: Path
    name: str
    steps: Steps

    def path(self, suffix: str) -> Path:
        """Return where the file `NAME` + `suffix` is written."""
        return self.folder / f"{self.name}{suffix}"
