import numpy as np
import pytest

from feredge.benchmarks.experiments.quantization_methods import Crops
from feredge.benchmarks.experiments.quantizers import judge


def test_predictions_are_judged_by_accuracy_agreement_and_divergence():
    reference = np.array([[0.5, 0.5 - 1e-6], [0.25, 0.75]])
    found = np.array([[0.25, 0.75], [0.25, 0.75]])
    rows = judge(found, reference, truth=np.array([0, 1]))
    assert rows["accuracy"] == 0.5 and rows["same_label_as_fp32"] == 0.5
    # KL((1/2, 1/2) || (1/4, 3/4)) = ln(4/3) / 2, and nothing for the second face.
    assert rows["mean_kl"] == pytest.approx(np.log(4 / 3) / 4, rel=1e-4)
    assert judge(reference, reference, np.array([0, 1]))["mean_kl"] == 0


def test_onnxruntime_reads_every_calibration_face_once():
    crops = np.arange(70, dtype=np.float32).reshape(70, 1, 1, 1)
    reader, seen = Crops(crops), []
    while (batch := reader.get_next()) is not None:
        seen.append(batch["faces"])
    assert (np.concatenate(seen) == crops).all()
