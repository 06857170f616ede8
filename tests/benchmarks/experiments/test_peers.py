"""The comparison's own parts; the other packages are several GB and are not installed here."""

import sys
from pathlib import Path

import pytest

from feredge.benchmarks.experiments.peers.__main__ import (
    accuracy,
    run_peer,
    without_contempt,
)
from feredge.benchmarks.experiments.peers.packages import PEERS, installed_mb
from feredge.calibration.labeled import pictures_in_folders, pictures_of_csv


def test_a_runner_answers_in_a_process_of_its_own(exported, photos, detector_path, faces_48px):
    scenes = pictures_of_csv(photos / "labels.csv")
    rows = [scenes.classes.index(name) for name in ("happiness", "neutral")]
    request = {
        "engine": str(exported / "manet.int8.onnx"), "detector": str(detector_path),
        "scenes": [str(scenes.files[row]) for row in rows],
        "crops": [str(next((faces_48px / "1_happiness").iterdir()))],
    }
    answer, start_s = run_peer(Path(sys.executable), "run_feredge", request)
    assert answer["scenes"] == ["happiness", "neutral"] and answer["crops"] == ["happiness"]
    assert 0 < start_s < 60 and answer["scene_s"] > 0 and 50 < answer["resident_mb"] < 2000
    assert "numpy" in answer["versions"]


def test_labels_count_under_any_usual_name_and_a_missed_face_is_wrong(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("image,label\na,happiness\nb,anger\nc,neutral\nd,contempt\n")
    pictures = without_contempt(pictures_of_csv(path))
    assert pictures.classes == ("happiness", "anger", "neutral")
    assert accuracy(["Happy", "angry", None], pictures)["value"] == pytest.approx(2 / 3)


def test_every_peer_has_a_runner_and_faces_without_contempt(faces_48px):
    import feredge.benchmarks.experiments.peers as package

    for peer in PEERS:
        assert (Path(package.__file__).parent / f"{peer.runner}.py").is_file()
        assert all("==" in item or "<" in item for item in peer.requirements), "pinned"
    assert "7_contempt" not in without_contempt(pictures_in_folders(faces_48px)).classes


def test_the_size_of_a_venv_is_that_of_its_packages_without_pip(tmp_path):
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, size in (("pip/a.py", 5_000_000), ("other/b.so", 2_000_000)):
        (site / name).parent.mkdir(parents=True)
        (site / name).write_bytes(bytes(size))
    assert installed_mb(tmp_path / "bin" / "python") == 2
