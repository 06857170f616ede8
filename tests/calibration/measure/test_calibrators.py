"""Polygraphy's calibrator, driven as TensorRT drives one; only the copy to the GPU is replaced."""

from types import SimpleNamespace

import numpy as np
import pytest

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.measure.calibrators import MINMAX, face_calibrator
from feredge.calibration.measure.tensorrt_cache import ENTROPY, cache_text
from feredge.runtime.errors import CalibrationError
from feredge.runtime.spec import CropSpec, InputSpec

VERSION = (10, 3, 0)


def base(algorithm):
    """A base class of TensorRT's: it knows its algorithm, the rest is the caller's."""
    return type(algorithm, (), {"get_algorithm": lambda self: algorithm})


TENSORRT = SimpleNamespace(
    IInt8EntropyCalibrator2=base(ENTROPY), IInt8MinMaxCalibrator=base(MINMAX),
    IInt8LegacyCalibrator=None, IInt8Calibrator=None,
)


@pytest.fixture
def on_gpu(monkeypatch):
    """The arrays that were copied to the GPU, in order; each one's address is its number."""
    config = pytest.importorskip("polygraphy").config
    config.USE_TENSORRT_RTX = True  # a process has room for one TensorRT: that of the other tests
    import polygraphy.backend.trt.calibrator as calibrators

    copied = []

    def copy(array, name, buffers):
        copied.append((name, array))
        return len(copied)

    monkeypatch.setattr(calibrators, "trt", TENSORRT)
    monkeypatch.setattr(calibrators.trt_util, "_get_array_on_gpu", copy)
    return copied


@pytest.fixture
def faces(faces_48px):
    folder = FaceFolder(faces_48px, InputSpec(96), CropSpec())
    folder.files = folder.files[::320]
    assert len(folder.files) > 9
    return folder


def calibrate(calibrator, cache):
    """Do as TensorRT does: ask for a cache, else for batches, then hand over the new cache."""
    if calibrator.read_calibration_cache() is not None:
        return 0
    batches = 0
    while calibrator.get_batch(["faces"]) is not None:
        batches += 1
    calibrator.write_calibration_cache(memoryview(cache))
    return batches


@pytest.mark.parametrize("algorithm", [ENTROPY, MINMAX])
def test_tensorrt_calibrates_on_the_faces_once_and_then_reads_its_cache(
    faces, on_gpu, tmp_path, algorithm
):
    path = tmp_path / "manet.cache"
    written = cache_text({"faces": 1.0}, VERSION, algorithm).encode()
    calibrator = face_calibrator(faces, 4, path, TENSORRT, VERSION, algorithm)
    assert calibrator.get_algorithm() == algorithm and calibrator.get_batch_size() == 4
    assert calibrate(calibrator, written) == len(faces.files) // 4 == len(on_gpu)
    crops = np.concatenate(list(faces.batches()))
    for k, (name, batch) in enumerate(on_gpu):
        assert name == "faces" and (batch == crops[4 * k : 4 * k + 4]).all()
    assert path.read_bytes() == written
    again = face_calibrator(faces, 4, path, TENSORRT, VERSION, algorithm)
    assert calibrate(again, b"") == 0 and again.read_calibration_cache() == written


def test_a_cache_of_another_tensorrt_is_refused_before_the_build(faces, on_gpu, tmp_path):
    path = tmp_path / "manet.cache"
    path.write_text(cache_text({"faces": 1.0}, (8, 6, 2)))
    with pytest.raises(CalibrationError, match=r"is of TRT-8602.*expected TRT-100300"):
        face_calibrator(faces, 4, path, TENSORRT, VERSION)


def test_a_tensorrt_without_calibrators_is_refused(faces, tmp_path):
    with pytest.raises(CalibrationError, match=r"TensorRT 11\.0\.0 has no calibrators: .*Q/DQ"):
        face_calibrator(faces, 4, tmp_path / "c", SimpleNamespace(), (11, 0, 0))
