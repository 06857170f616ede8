"""Fixtures: real faces and photos, and the bundled network exported once a session."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from feredge.runtime.environment import quiet_opencv

quiet_opencv()  # as the commands do, before cv2 is imported

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from feredge.runtime.sources.pictures import read_picture  # noqa: E402

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def shared(name: str) -> Path:
    """Return test data that is not in the repository; without it CI fails, others skip."""
    path = SHARED / name
    if not path.exists():
        message = f"test data {name} is not beside the checkout"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


# Fixtures that export a network, emulate a GPU or run a cluster: minutes in all.
SLOW_FIXTURES = {"exported", "seeded", "typed", "emulated_driver", "warp_module",
                 "sanitized_runner", "mosquitto", "measured", "fp32", "workplace"}
SLOW_FOLDERS = {"fuzz", "export", "batch", "emulation", "clients"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what waits for a slow fixture, or stands in a folder of slow tests."""
    for item in items:
        folders = set(item.path.relative_to(ROOT).parts)
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())) or SLOW_FOLDERS & folders:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    return shared


@pytest.fixture(scope="session")
def detector_path() -> Path:
    """The bundled detector."""
    from feredge.runtime.detect.weights import BUNDLED

    return BUNDLED


@pytest.fixture(scope="session")
def yunet_path() -> Path:
    return shared("models/face_detection_yunet_2026may.onnx")


@pytest.fixture(scope="session")
def photos() -> Path:
    return shared("data/photos")


@pytest.fixture(scope="session")
def faces_48px() -> Path:
    return shared("data/ferplus-valid")


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A public-domain portrait that scikit-image ships, 512x512 BGR."""
    import skimage

    picture = read_picture(Path(skimage.__file__).parent / "data" / "astronaut.png")
    assert picture.shape == (512, 512, 3)
    return picture


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled network, exported with its bundled ranges by the command itself."""
    from feredge.export.fer_export import main

    folder = tmp_path_factory.mktemp("exported")
    assert main(["--model", "manet", "--int8", "--target", "onnx", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def measured_ranges():
    """Return a function that measures ranges by every method on all faces, none held out."""
    from feredge.calibration.measure.activations import Activations
    from feredge.calibration.measure.methods import bounds

    def measure(model, convs, batches):
        activations = Activations(model, convs)
        histograms = activations.histograms()
        for crops in batches:
            activations.add(crops, histograms)
        values = {key: bounds(histogram) for key, histogram in histograms.items()}
        return values, sum(map(len, batches))

    return measure


@pytest.fixture
def write_clip(tmp_path: Path) -> Callable[..., Path]:
    """Write frames to a video file."""

    def write(frames: list[np.ndarray], name: str = "clip.mp4", fps: float = 25.0) -> Path:
        path = tmp_path / name
        height, width = frames[0].shape[:2]
        codec = "MJPG" if path.suffix == ".avi" else "mp4v"
        writer = cv2.VideoWriter(
            str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height)
        )
        for frame in frames:
            writer.write(frame)
        writer.release()
        return path

    return write


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write a module into the current directory; its networks are forgotten after the test."""
    from feredge.export.models import registry

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(registry, "NETWORKS", registry.known_networks())
    written = []

    def write(source, name="mine"):
        assert name not in sys.modules or name in written
        sys.modules.pop(name, None)
        written.append(name)
        (tmp_path / f"{name}.py").write_text(source)

    yield write
    for name in written:
        sys.modules.pop(name, None)
