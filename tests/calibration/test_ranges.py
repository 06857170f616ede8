import json
import shutil
import warnings
from dataclasses import replace

import cv2
import numpy as np
import onnx_ir as ir
import pytest

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.graphs.qdq import tensorrt_graph
from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.measure.methods import METHODS
from feredge.calibration.ranges import Ranges
from feredge.runtime import open_detector
from feredge.runtime.errors import CalibrationError
from feredge.runtime.preprocess.geometry import whole_picture
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.sources.pictures import find_pictures
from feredge.runtime.spec import CropSpec, InputSpec

KEEP_FLOAT = ("*.cbam.*",)


@pytest.fixture(scope="module")
def fp32(exported):
    return ir.load(exported / "manet.onnx")


@pytest.fixture
def some_faces(faces_48px, tmp_path):
    """Forty faces and what else lies about in such folders."""
    folder = tmp_path / "faces"
    (folder / "more").mkdir(parents=True)
    for k, file in enumerate(find_pictures(faces_48px)[::90]):
        (folder / ("more" if k % 2 else ".") / file.name).write_bytes(file.read_bytes())
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_batches_are_crops_as_the_runtime_cuts_them(some_faces):
    faces = FaceFolder(some_faces, InputSpec(96), CropSpec())
    batches = list(faces.batches())
    whole, rest = divmod(len(faces.files), 8)
    assert [len(batch) for batch in batches] == [8] * whole + [rest] * (rest > 0)
    picture = cv2.imread(str(faces.files[0]))
    box, whole = whole_picture(picture.shape)
    assert (batches[0][:1] == crop_faces(picture, box, InputSpec(96), whole)).all()


def test_faces_are_found_in_scenes(photos, detector_path, tmp_path):
    for file in find_pictures(photos)[:5]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    cv2.imwrite(str(tmp_path / "nobody.png"), np.zeros((100, 100, 3), np.uint8))
    with open_detector(detector_path) as detector:
        faces = FaceFolder(tmp_path, InputSpec(96), CropSpec(), detector)
        (crops,) = faces.batches()
    assert crops.shape == (5, 3, 96, 96)


def test_broken_pictures_are_left_out_with_one_warning_each(some_faces):
    (some_faces / "broken.png").write_bytes(b"broken")
    faces = FaceFolder(some_faces, InputSpec(32), CropSpec())
    with pytest.warns(UserWarning, match=r"skipped: .*broken\.png") as warned:
        first = sum(map(len, faces.batches()))
        second = sum(map(len, faces.batches()))
    assert first == second == len(faces.files) - 1
    assert len([w for w in warned if "broken" in str(w.message)]) == 1


def test_folders_without_faces_are_refused(tmp_path):
    for folder, said in ((tmp_path / "none", "no such folder"), (tmp_path, "holds no pictures")):
        with pytest.raises(CalibrationError, match=said):
            FaceFolder(folder, InputSpec(32), CropSpec())
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.warns(UserWarning), pytest.raises(CalibrationError, match="no face could be read"):
        list(FaceFolder(tmp_path, InputSpec(32), CropSpec()).batches())


def test_few_faces_are_warned_about(tmp_path, astronaut):
    cv2.imwrite(str(tmp_path / "a.png"), astronaut)
    with pytest.warns(UserWarning, match=r"1 pictures .* 500 or more"):
        FaceFolder(tmp_path, InputSpec(32), CropSpec())


def test_measured_ranges_are_the_extremes_of_the_activations(fp32, measured_ranges):
    rng = np.random.default_rng(0)
    batches = [rng.random((n, 3, 96, 96), np.float32) for n in (4, 3)]
    convs = quantized_convs(fp32.graph, KEEP_FLOAT)
    values, faces = measured_ranges(fp32, convs, batches)
    assert faces == 7 and len(values) > 100
    pixels = np.concatenate(batches)
    assert values["conv1:input"]["max"] == (float(pixels.min()), float(pixels.max()))
    weight = fp32.graph.initializers["conv1.weight"].const_value.numpy()
    bias = fp32.graph.initializers["conv1.bias"].const_value.numpy()
    import torch

    stem = torch.nn.functional.conv2d(torch.from_numpy(pixels), torch.from_numpy(weight.copy()),
                                      torch.from_numpy(bias.copy()), stride=2, padding=3).relu()
    low, high = values["layer1.0.conv1:input"]["max"]
    assert low == 0 and high == pytest.approx(float(stem.max()), rel=1e-5)


def test_activations_that_are_not_finite_are_refused(fp32, measured_ranges):
    damaged = fp32.clone()
    weight = damaged.graph.initializers["layer1.0.conv1.weight"]
    array = weight.const_value.numpy().copy()
    array[0] = np.nan
    weight.const_value = ir.tensor(array)
    convs = quantized_convs(damaged.graph, KEEP_FLOAT)
    with pytest.raises(CalibrationError, match=r"layer1\.0\.conv2:input is not finite"):
        measured_ranges(damaged, convs, [np.zeros((1, 3, 96, 96), np.float32)])


def ranges():
    values = {"conv1:input": {"max": (0.0, 1.0)}, "layer1.0.conv1:input": {"max": (-1.5, 2.25)}}
    return Ranges("ab" * 32, 3, "cd" * 32, {"scale": 1.0}, values, {"cpu-7bit": {"top1": 0.99}})


def test_ranges_survive_the_round_trip_through_json():
    text = ranges().to_json()
    assert Ranges.from_json(text) == ranges()
    assert json.loads(text)["values"]["conv1:input"]["max"] == [0.0, 1.0]
    assert "\n  \"conv1:input\"" in text, "one line a tensor, so that a diff can be read"


@pytest.mark.parametrize("cut", [0, 10, 100, 300])
def test_a_truncated_ranges_file_is_refused(cut):
    with pytest.raises(CalibrationError, match="truncated"):
        Ranges.from_json(ranges().to_json()[:cut])


def test_ranges_of_other_weights_are_refused():
    ranges().check_belongs("ab" * 32)
    with pytest.raises(CalibrationError, match=r"abababababab.*000000000000.*calibrate again"):
        ranges().check_belongs("00" * 32)


def test_the_method_in_use_is_the_default():
    values = {"conv1:input": {"max": (0.0, 2.0), "mse": (0.0, 1.5)}}
    measured = Ranges("ab" * 32, 3, "cd" * 32, {}, values)
    assert measured.of(["conv1:input"]) == {"conv1:input": (0.0, 2.0)}
    assert replace(measured, method="mse").of(["conv1:input"]) == {"conv1:input": (0.0, 1.5)}


@pytest.mark.parametrize("field, said", [("crop", "crop scale 1.0, this export's is 1.3"),
                                         ("input", "input side 96, this export's is 224")])
def test_ranges_of_another_crop_or_input_are_refused_by_name(field, said):
    measured = replace(ranges(), input={"side": 96})
    other = {"crop": {"scale": 1.3}, "input": {"side": 224}}
    measured.check_belongs("ab" * 32, measured.crop, measured.input)
    with pytest.raises(CalibrationError, match=said):
        measured.check_belongs("ab" * 32, **{field: other[field]})


@pytest.mark.filterwarnings("ignore:.*recommended")
def test_a_face_has_the_class_of_its_folder(tmp_path, astronaut):
    for folder in ("0_neutral", "happiness", "others", "7_happiness"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), astronaut)
    (tmp_path / "happiness" / "broken.png").write_bytes(b"broken")
    faces = FaceFolder(tmp_path, InputSpec(32), CropSpec())
    with pytest.warns(UserWarning, match="skipped: "):
        ((crops, classes),) = faces.labeled_batches(("neutral", "happiness"))
    assert [file.parent.name for file in faces.files] == [
        "0_neutral", "7_happiness", "happiness", "happiness", "others"]
    assert classes.tolist() == [0, 1, 1, -1] and classes.dtype == np.int64
    assert len(crops) == 4


def test_batches_and_classes_go_in_step(faces_48px):
    faces = FaceFolder(faces_48px, InputSpec(32), CropSpec())
    faces.files = faces.files[::50]
    labels = ("neutral", "happiness")
    batches = list(faces.labeled_batches(labels))
    assert [len(crops) for crops, _ in batches] == [len(crops) for crops in faces.batches()]
    classes = np.concatenate([classes for _, classes in batches])
    assert (classes == faces.classes_of(labels)).all() and set(classes) == {-1, 0, 1}


@pytest.mark.slow
def test_constant_pictures_give_ranges_that_int8_can_run(fp32, measured_ranges):
    convs = quantized_convs(fp32.graph, KEEP_FLOAT)
    values, _ = measured_ranges(fp32, convs, [np.zeros((3, 3, 96, 96), np.float32)])
    assert values["conv1:input"] == dict.fromkeys(METHODS, (0.0, 0.0))
    for method in ("max", "entropy"):
        graph = tensorrt_graph(fp32, Ranges("", 3, "", {}, values, method=method), KEEP_FLOAT)
        answer = session_of(graph).run(None, {"faces": np.zeros((1, 3, 96, 96), np.float32)})[0]
        assert np.isfinite(answer).all()


@pytest.mark.parametrize("name", [
    "cases/18-apng-corrupts-memory/grey_dispose.png", "cases/hostile/pictures/jpeg-65500.jpg",
    "cases/hostile/pictures/png-32768x32767-1bit.png"], ids=["apng", "huge jpeg", "huge png"])
def test_a_hostile_picture_costs_at_most_itself(some_faces, shared_file, name):
    before = FaceFolder(some_faces, InputSpec(32), CropSpec(), recommended=0)
    expected = sum(map(len, before.batches()))
    shutil.copy(shared_file(name), some_faces)
    faces = FaceFolder(some_faces, InputSpec(32), CropSpec(), recommended=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sum(map(len, faces.batches()))
    assert found - expected in (0, 1) and found - expected == 1 - len(faces.reader.broken)
