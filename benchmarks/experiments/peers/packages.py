"""The packages that feredge is compared with, and their virtual environments."""

from __future__ import annotations

import subprocess
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Peer:
    """A package: the requirements for pip (none: this repository), and the runner that calls it."""

    name: str
    runner: str
    requirements: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


FER = ("fer==25.10.3", "setuptools<81")  # it imports pkg_resources
PEERS = (
    Peer("feredge", "run_feredge"),
    Peer("fer, Haar cascade", "run_fer", FER),
    Peer("fer, MTCNN", "run_fer", FER, {"mtcnn": True}),
    Peer("facial-emotion-recognition", "run_facial_emotion_recognition",
         ("facial-emotion-recognition==0.3.4",)),
)
# From the content of their wheels: why each cannot run offline, or at all.
LEFT_OUT = {
    "deepface 0.0.103": "downloads its weights from GitHub at first use",
    "emotiefflib 1.1.1": "downloads its weights from GitHub at first use",
    "hsemotion 0.3.0, hsemotion-onnx 0.3.1": "download their weights from GitHub at first use",
    "py-feat 2.1.5": "downloads its weights from the Hugging Face hub at first use",
    "rmn 3.3.0": "downloads its weights from the Hugging Face hub at first use",
    "facetorch 0.6.2": "downloads its weights from the Hugging Face hub or Google Drive "
                        "at first use",
    "online-emotion-detection 0.3.4": "holds no weights",
    "emotion-framework 1.0.1": "holds no weights",
    "faceemotionrecognition 1.2.2": "its networks can be called through a Tk window only",
}


def install(peer: Peer, venvs: Path, repository: Path) -> Path:
    """Return the Python of a peer's virtual environment, created if it does not exist."""
    folder = venvs / peer.runner
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet",
                        *(peer.requirements or [str(repository)])], check=True)
    return python


def installed_mb(python: Path) -> float:
    """Return the size of the packages in an environment, without pip, in megabytes."""
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    files = (file for file in site.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(file.stat().st_size for file in files
               if file.relative_to(site).parts[0] != "pip") / 1e6
