"""Public data sets: small trees in the published layouts, read and evaluated."""

import shutil

import numpy as np
import pytest

from feredge.benchmarks.eval.datasets import AFFECTNET, DATASETS, RAF_DB, majority
from feredge.benchmarks.eval.options import DATASET_NAMES
from feredge.benchmarks.fer_eval import main
from feredge.runtime.errors import SourceError


@pytest.fixture
def face(faces_48px):
    """The path of a face of a class, the n-th one."""
    folders = {folder.name.partition("_")[2]: folder for folder in faces_48px.iterdir()}
    return lambda label, n=0: sorted(folders[label].iterdir())[n]


def put(face, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(face, path)


def raf_db(root, face):
    """Numbered labels in a list file, aligned pictures; training pictures are in the same list."""
    lines = ["train_00001.jpg 5"]
    for number, label in enumerate(RAF_DB, 1):
        put(face(label), root / f"basic/Image/aligned/test_{number:04}_aligned.jpg")
        lines.append(f"test_{number:04}.jpg {number}")
    (root / "basic/EmoLabel").mkdir()
    (root / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines) + "\n")
    return RAF_DB


def affectnet(root, face, classes):
    """Crops with one file of annotation each; 8 to 10 are no expressions."""
    (root / "val_set/annotations").mkdir(parents=True)
    for number, label in enumerate([*AFFECTNET, "neutral", "neutral"]):
        put(face(label), root / f"val_set/images/{number}.jpg")
        np.save(root / f"val_set/annotations/{number}_exp.npy", np.array(str(number)))
    return classes


def class_folders(root, face, folder, names):
    for name, label in names.items():
        put(face(label), root / folder / name / f"{name}_0001.png")
    return tuple(names.values())


NAMES = {"Angry": "anger", "Disgust": "disgust", "Fear": "fear", "Happy": "happiness",
         "Neutral": "neutral", "Sad": "sadness", "Surprise": "surprise"}


def fer_plus(root, face):
    """Votes in a table, pictures by their names; other parts and faces without majority too."""
    lines = ["Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,"
             "unknown,NF", "Training,fer0000001.png,9,0,0,0,0,0,0,0,1,0",
             "PrivateTest,,0,0,0,0,0,0,0,0,0,10", "PrivateTest,fer0000002.png,5,5,0,0,0,0,0,0,0,0"]
    for number, label in enumerate(("neutral", "happiness")):
        put(face(label), root / f"data/FER2013Test/fer001000{number}.png")
        votes = ["1"] * 10
        votes[number] = "7"
        lines.append(f"PrivateTest,fer001000{number}.png,{','.join(votes)}")
    (root / "fer2013new.csv").write_text("\n".join(lines) + "\n")
    return ("neutral", "happiness")


TREES = {
    "raf-db": raf_db,
    "affectnet7": lambda root, face: affectnet(root, face, AFFECTNET[:7]),
    "affectnet8": lambda root, face: affectnet(root, face, AFFECTNET),
    "caer-s": lambda root, face: class_folders(root, face, "test", {"Anger": "anger", **NAMES}),
    "sfew": lambda root, face: class_folders(
        root, face, "Val_Aligned_Faces_new/Val_Aligned_Faces", NAMES),
    "ferplus": fer_plus,
}


def test_every_data_set_is_an_option_and_tested():
    assert set(DATASET_NAMES) == set(DATASETS) == set(TREES)


@pytest.mark.parametrize("name", [name for name in TREES if name != "caer-s"])
def test_a_data_set_is_evaluated_as_it_is_published(name, face, exported, tmp_path, capfd):
    classes = TREES[name](tmp_path, face)
    data = DATASETS[name].read(tmp_path)
    assert all(file.is_file() for file in data.files) and len(data.files) == len(classes)
    engine = str(exported / "manet.int8.onnx")
    assert main(["--engine", engine, "--dataset", name, "--root", str(tmp_path)]) == 0
    out, _ = capfd.readouterr()
    assert f"{len(classes)} scored, 0 without a face, 0 broken" in out
    assert f"accuracy on {name}, published and measured" in out
    for network, accuracy in DATASETS[name].published.items():
        assert f"{network} (published): {accuracy:.2%}" in out


def test_caer_s_is_scenes_in_which_the_face_is_detected(photos, exported, tmp_path, capfd):
    put(photos / "Nick_Nolte_0001.jpg", tmp_path / "test" / "Neutral" / "0001.png")
    engine = str(exported / "manet.int8.onnx")
    assert main(["--engine", engine, "--dataset", "caer-s", "--root", str(tmp_path)]) == 0
    out, _ = capfd.readouterr()
    assert "the best face of each scene; 1 scored" in out and "MA-Net (published): 88.42%" in out


def test_the_older_release_of_affectnet_is_a_table(face, tmp_path):
    put(face("fear"), tmp_path / "Manually_Annotated_Images" / "103" / "a.jpg")
    (tmp_path / "validation.csv").write_text("103/a.jpg,0,0,9,9,1;2,4,-0.1,0.8\n"
                                             "103/b.jpg,0,0,9,9,1;2,10,-2,-2\n")
    data = DATASETS["affectnet8"].read(tmp_path)
    assert data.classes == ("fear",) and data.files[0].is_file()


@pytest.mark.parametrize("votes, label", [
    ([4, 0, 0, 1, 3, 2, 0, 0, 0, 0], None), ([6, 0, 1, 1, 0, 0, 0, 0, 2, 0], "neutral"),
    ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], None), ([1] * 10, None),
], ids=["no majority", "single votes do not count", "no face", "only single votes"])
def test_fer_plus_takes_the_majority_of_votes(votes, label):
    assert majority(list(map(str, votes))) == label


@pytest.mark.parametrize("name", TREES)
def test_another_folder_is_refused_with_the_expected_layout(name, tmp_path):
    with pytest.raises(SourceError, match="as it is published: expected"):
        DATASETS[name].read(tmp_path)


@pytest.mark.parametrize("arguments, message", [
    (["--dataset", "sfew"], "--dataset and --root belong together"),
    (["--root", "."], "--dataset and --root belong together"),
    (["--dataset", "sfew", "--root", ".", "--data", "."], "leave out --data and --csv"),
])
def test_options_that_contradict_are_one_line(arguments, message, exported, capfd):
    assert main(["--engine", str(exported / "manet.onnx"), *arguments]) == 2
    assert message in capfd.readouterr().err


def test_a_damaged_list_is_one_line(face, tmp_path):
    raf_db(tmp_path, face)
    (tmp_path / "basic/EmoLabel/list_patition_label.txt").write_text("test_0001.jpg joy\n")
    with pytest.raises(SourceError, match="'joy' is no class number"):
        DATASETS["raf-db"].read(tmp_path)
