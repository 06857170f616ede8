"""fer-eval as a user runs it: real faces, scenes, groups, two networks, and what goes wrong."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest

from feredge.benchmarks.eval.evaluation import read_face
from feredge.benchmarks.experiments.tables.quality import accuracy as accuracy_table
from feredge.benchmarks.fer_eval import main
from feredge.calibration.face_reader import FaceReader
from feredge.runtime import Faces, open_engine
from feredge.runtime.sources.pictures import find_pictures
from feredge.runtime.spec import METADATA_KEY, ModelSpec

CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


@pytest.fixture
def run(exported, tmp_path, capfd):
    """Run the command with the INT8 engine; returns exit code, stdout and stderr."""

    def call(*arguments, engines=("manet.int8.onnx",)):
        given = [word for name in engines for word in ("--engine", str(exported / name))]
        code = main([*given, *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture(scope="session")
def few_faces(faces_48px, tmp_path_factory):
    """A folder a class, as FER+ has them, with every fortieth face."""
    folder = tmp_path_factory.mktemp("few") / "faces"
    for file in find_pictures(faces_48px)[::40]:
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.parent.name)
    return folder


def evaluated(run, tmp_path, *arguments, **options):
    code, out, err = run(*arguments, "--json", tmp_path / "eval.json", **options)
    assert code == 0, err
    return json.loads((tmp_path / "eval.json").read_text()), out


def test_two_networks_on_real_faces_are_scored_and_compared(run, few_faces, tmp_path):
    found, out = evaluated(run, tmp_path, "--data", few_faces,
                           engines=("manet.onnx", "manet.int8.onnx"))
    float32, int8 = found["engines"]
    assert found["faces"] == found["pictures"] == len(find_pictures(few_faces)) > 80
    scores = int8["scores"]
    confusion = np.array(scores["confusion"])
    assert scores["right"] == np.trace(confusion)
    accuracy = scores["accuracy"]
    assert 0.7 < accuracy["low"] < accuracy["value"] < accuracy["high"]
    supports = {label: row["support"] for label, row in scores["classes"].items()}
    assert supports == dict(zip(CLASSES, confusion.sum(axis=1)))
    recalls = [row["recall"] for row in scores["classes"].values() if row["support"]]
    assert scores["balanced_accuracy"]["value"] == pytest.approx(np.mean(recalls))
    assert float32["against_first"] is None
    assert float32["by_probability"] is None, "face crops have no quality"
    against = int8["against_first"]
    flips = against["flips"]
    assert 0.95 < against["agreement"] == pytest.approx(1 - len(flips) / found["faces"])
    assert against["right_to_wrong"] - against["wrong_to_right"] == (
        float32["scores"]["right"] - scores["right"])
    assert all((few_faces / flip["picture"]).is_file() for flip in flips)
    assert found["environment"]["cores"] and "manet.int8.onnx: accuracy" in out
    table = accuracy_table({"accuracy": found})
    assert f"| `manet.int8.onnx` | {accuracy['value']:.1%} [" in table
    assert f"| anger | {supports['anger']} | " in table


def test_scenes_of_a_csv_are_searched_and_grouped(run, photos, detector_path, tmp_path):
    rows = (photos / "labels.csv").read_text().splitlines()[1::12]
    sheet = tmp_path / "some.csv"
    sheet.write_text("image,emotion,half\n" + "".join(
        f"{row},{'first' if place < 9 else 'second'}\n" for place, row in enumerate(rows)))
    found, out = evaluated(run, tmp_path, "--csv", sheet, "--data", photos, "--group-by", "half",
                           "--detect", "--detector", detector_path)
    assert found["detected"] and found["faces"] == len(rows) and not found["without_face"]
    (engine,) = found["engines"]
    groups = engine["groups"]
    parts = groups["groups"]
    assert parts["first"]["faces"] == 9 and parts["second"]["faces"] == len(rows) - 9
    whole = sum(part["faces"] * part["accuracy"]["value"] for part in parts.values()) / len(rows)
    assert whole == pytest.approx(engine["scores"]["accuracy"]["value"])
    assert groups["gap"]["value"] == pytest.approx(
        parts[groups["best"]]["accuracy"]["value"] - parts[groups["worst"]]["accuracy"]["value"])
    assert "gap from" in out and "contempt" in found["unseen"]
    by_model, by_probability = engine["selective"], engine["by_probability"]
    assert by_model["curve"][-1] == by_probability["curve"][-1], "all faces: the same labels"
    limits = [curve["points"][0]["min_confidence"] for curve in (by_model, by_probability)]
    assert limits[0] != limits[1] and "by probability alone: " in out


def test_numbered_folders_are_named_by_labels(run, few_faces, tmp_path):
    numbered = tmp_path / "numbered"
    for place, folder in enumerate(sorted(few_faces.iterdir()), start=1):
        shutil.copytree(folder, numbered / str(place))
    code, _, err = run("--data", numbered)
    assert code == 2 and "none of the data's classes" in err and "--labels" in err
    assert "is among the network's neutral, " in err
    called = [folder.name for folder in sorted(few_faces.iterdir())]
    found, _ = evaluated(run, tmp_path, "--data", numbered, "--labels", ",".join(called))
    plain, _ = evaluated(run, tmp_path, "--data", few_faces)
    assert found["engines"][0]["scores"] == plain["engines"][0]["scores"]
    code, _, err = run("--data", numbered, "--labels", "happy,sad")
    assert code == 2 and f"--labels names 2 classes, the data has {len(called)}: 1, 2" in err


def test_synonyms_are_understood_and_unknown_classes_are_named_and_left_out(
        run, few_faces, tmp_path):
    data = tmp_path / "words"
    shutil.copytree(few_faces / "1_happiness", data / "Happy")
    shutil.copytree(few_faces / "4_anger", data / "angry")
    shutil.copytree(few_faces / "3_sadness", data / "boredom")
    found, out = evaluated(run, tmp_path, "--data", data)
    bored = len(find_pictures(data / "boredom"))
    assert found["left_out"] == {"boredom": bored} and found["faces"] == found["pictures"] - bored
    assert found["unseen"] == [label for label in CLASSES if label not in ("happiness", "anger")]
    assert f"{bored} pictures of boredom" in out and "no faces of neutral, surprise" in out


def test_broken_pictures_and_empty_scenes_are_named_and_the_rest_is_scored(
        run, few_faces, photos, detector_path, tmp_path):
    data = tmp_path / "data"
    (data / "neutral").mkdir(parents=True)
    shutil.copy(photos / "Nick_Nolte_0001.jpg", data / "neutral")
    whole = cv2.imencode(".png", np.full((64, 64, 3), 99, np.uint8))[1].tobytes()
    (data / "neutral" / "torn.png").write_bytes(whole[:-20])
    cv2.imwrite(str(data / "neutral" / "wall.png"), np.full((200, 200, 3), 127, np.uint8))
    code, out, err = run("--data", data, "--detect", "--detector", detector_path, "--json", "-")
    found = json.loads(out)
    assert code == 1 and "torn.png is truncated" in err
    assert found["faces"] == 1 and found["without_face"] == ["neutral/wall.png"]
    assert len(found["broken"]) == 1
    (data / "neutral" / "Nick_Nolte_0001.jpg").unlink()
    code, out, err = run("--data", data, "--detect", "--detector", detector_path)
    assert code == 2 and "none of which can be scored" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_plot_is_a_picture(run, few_faces, tmp_path, suffix):
    path = tmp_path / f"plot{suffix}"
    code, _, err = run("--data", few_faces / "..", "--labels", "neutral", "--plot", path)
    assert code == 0, err
    content = path.read_bytes()
    assert (b"<svg" in content) if suffix == ".svg" else content.startswith(b"\x89PNG")


WRONG = {
    "nothing": ([], "pass --data DIR"),
    "no such folder": (["--data", "nowhere"], "nowhere: there is no such folder"),
    "no such csv": (["--csv", "nowhere.csv"], "nowhere.csv cannot be read"),
    "no such folder of a csv": (["--csv", "good.csv", "--data", "nowhere"], "no such folder"),
    "no pictures": (["--data", "empty"], "expected one folder per class"),
    "an empty csv": (["--csv", "header.csv"], "lists no pictures"),
    "no label column": (["--csv", "bare.csv"], "has the columns image, age; expected one called "
                        "label, emotion, expression or class"),
    "no csv at all": (["--csv", "binary.csv"], "is no CSV"),
    "group without csv": (["--data", "faces", "--group-by", "age"], "pass --csv"),
    "group by another column": (["--csv", "good.csv", "--group-by", "age"],
                                "--group-by age: no such column; the data has image, label"),
    "detector unused": (["--data", "faces", "--detector", "x.onnx"], "pass --detect with it"),
    "plot of another kind": (["--data", "faces", "--plot", "plot.jpg"], "ends in .png or .svg"),
    "no folder for the json": (["--data", "faces", "--json", "nowhere/a.json"],
                               "there is no folder nowhere"),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG.keys())
def test_bad_input_is_one_line(run, few_faces, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    shutil.copytree(few_faces, tmp_path / "faces")
    (tmp_path / "good.csv").write_text("image,label\na.png,happy\n")
    (tmp_path / "header.csv").write_text("image,label\n")
    (tmp_path / "bare.csv").write_text("image,age\na.png,3\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    code, out, err = run(*arguments)
    assert code == 2 and message in err and len(err.splitlines()) == 1 and not out


def test_networks_with_other_labels_are_not_compared(run, few_faces, exported, tmp_path):
    model = onnx.load(exported / "manet.int8.onnx")
    (entry,) = (item for item in model.metadata_props if item.key == METADATA_KEY)
    spec = ModelSpec.from_json(entry.value)
    entry.value = replace(spec, labels=spec.labels[::-1]).to_json()
    onnx.save(model, tmp_path / "turned.onnx")
    code, _, err = run("--data", few_faces, engines=("manet.onnx", tmp_path / "turned.onnx"))
    assert code == 2 and "turned.onnx contempt, fear" in err and "same labels" in err


def test_a_missing_package_is_named_with_the_extra_that_brings_it(run, few_faces, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)  # what an import then finds
    code, _, err = run("--data", few_faces)
    assert code == 2 and err.startswith("fer-eval: error: sklearn: ")
    assert "pip install 'feredge[bench]'" in err and len(err.splitlines()) == 1


def test_help_loads_nothing_heavy():
    code = ("import sys, json, atexit\n"
            "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
            "from feredge.benchmarks.fer_eval import main; main(['--help'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    heavy = {"cv2", "onnx", "onnxruntime", "torch", "sklearn", "scipy", "matplotlib"}
    assert "fer-eval" in done.stdout and not loaded & heavy


def test_a_best_face_outside_its_picture_does_not_end_the_run(few_faces, exported):
    with open_engine(exported / "manet.onnx") as engine:
        beyond = Faces.from_detections(
            np.array([[60, 0, 70, 9], [5, 5, 40, 40]]), np.zeros((2, 5, 2)), np.array([0.9, 0.8]))
        nowhere = SimpleNamespace(detect=lambda picture: beyond[:1])
        reader, blind = (FaceReader(finder, max_faces=1) for finder in
                         (SimpleNamespace(detect=lambda picture: beyond), nowhere))
        file = find_pictures(few_faces)[0]
        (crops,) = read_face(reader, file, [engine.spec]).crops
        assert crops.shape == (1, 3, 96, 96) and not reader.without_face
        assert read_face(blind, file, [engine.spec]) is None and blind.without_face == [file]
