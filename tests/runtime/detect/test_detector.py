import cv2
import numpy as np
import pytest

from feredge.runtime import Faces, open_detector
from feredge.runtime.detect.yunet import decode, padded_input, suppress_overlaps
from feredge.runtime.errors import EngineError
from feredge.runtime.sources.pictures import find_pictures, read_picture


def test_a_face_is_found_in_nearly_every_photo(detector_path, photos):
    files = find_pictures(photos)
    with open_detector(detector_path) as detector:
        found = sum(len(detector.detect(read_picture(path))) > 0 for path in files)
    assert found >= 0.97 * len(files)


@pytest.mark.parametrize("name, top", [("yunet_path", 60), ("detector_path", 50)])
def test_box_and_landmarks_lie_on_the_face(request, astronaut, name, top):
    """The bundled detector's box begins a little higher on the forehead than YuNet's."""
    with open_detector(request.getfixturevalue(name)) as detector:
        faces = detector.detect(astronaut)
    assert len(faces) == 1
    x0, y0, x1, y1 = faces.boxes_xyxy[0]
    assert 160 < x0 < 200 and 255 < x1 < 300 and top < y0 < 100 and 170 < y1 < 210
    right_eye, left_eye, nose, right_mouth, left_mouth = faces.landmarks[0]
    assert right_eye[0] < nose[0] < left_eye[0] and right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]


def test_a_second_box_beside_the_first_of_a_small_face_is_dropped():
    shifted = [[0, 0, 12, 14], [7, 0, 19, 14], [9, 0, 21, 14]]  # IoU with the first: 0.26, 0.14
    boxes, scores = np.array(shifted, float), np.array([0.9, 0.8, 0.7])
    assert suppress_overlaps(boxes[:2], scores[:2]).tolist() == [0]
    assert suppress_overlaps(boxes[[0, 2]], scores[[0, 2]]).tolist() == [0, 1]


@pytest.mark.parametrize("scale", [0.5, 2, 5])
def test_boxes_are_in_the_frames_own_pixels(detector_path, astronaut, scale):
    with open_detector(detector_path) as detector:
        expected = detector.detect(astronaut).boxes_xyxy[0]
        scaled = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        got = detector.detect(scaled).boxes_xyxy[0] / scale
    assert np.abs(got - expected).max() < 8


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (33, 31), (480, 640), (1080, 1920)])
def test_frames_of_any_shape_are_searched(detector_path, shape):
    frame = np.zeros((*shape, 3), np.uint8)
    with open_detector(detector_path) as detector:
        assert len(detector.detect(frame)) == 0


def test_a_network_of_fixed_input_finds_the_same_face(detector_path, astronaut, tmp_path):
    """YuNet 2023mar takes 640x640 only: the frame is padded onto that."""
    import onnx

    model = onnx.load(detector_path)
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 640
    onnx.save(model, tmp_path / "fixed.onnx")
    with open_detector(detector_path) as free, open_detector(tmp_path / "fixed.onnx") as fixed:
        assert fixed.fixed == (640, 640)
        expected, got = free.detect(astronaut), fixed.detect(astronaut)
    assert len(got) == len(expected) == 1
    assert np.abs(got.boxes_xyxy - expected.boxes_xyxy).max() < 2


def test_the_canvas_is_anchored_top_left_and_padded_with_zeros():
    frame = np.full((100, 200, 3), 9, np.uint8)
    canvas, scale = padded_input(frame, 320, None)
    assert canvas.shape == (1, 3, 160, 320) and scale == (1.6, 1.6)
    canvas, scale = padded_input(frame, 100, None)
    assert canvas.shape == (1, 3, 64, 128) and scale == (0.5, 0.5)
    assert (canvas[..., :50, :100] == 9).all()
    assert not canvas[..., 50:, :].any() and not canvas[..., 100:].any()


def outputs_with(stride, row, column, columns, **values):
    """YuNet's outputs on a 64x64 canvas with one answer in one cell."""
    outputs = {}
    for s in (8, 16, 32):
        cells = (64 // s) ** 2
        for part, size in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            outputs[f"{part}_{s}"] = np.zeros((1, cells, size), np.float32)
    for part, value in values.items():
        outputs[f"{part}_{stride}"][0, row * columns + column] = value
    return outputs


def test_a_cell_is_decoded_as_yunet_defines_it():
    outputs = outputs_with(16, 1, 2, 4, cls=0.9, obj=0.9, bbox=[0.5, 0.25, 0, np.log(2)],
                           kps=np.arange(10) / 10)
    faces = decode(outputs, (64, 64), (2.0, 1.0), 0.5)
    assert np.allclose(faces.scores, 0.9)
    # centre ((2 + .5) * 16, (1 + .25) * 16), size (16, 32), then x halved by the scale
    assert np.allclose(faces.boxes_xyxy, [[32 / 2, 4, 48 / 2, 36]])
    assert np.allclose(faces.landmarks[0, 1], [(2 + 0.2) * 16 / 2, (1 + 0.3) * 16])


def test_nothing_above_the_score_is_no_face():
    outputs = outputs_with(8, 0, 0, 8, cls=0.5, obj=0.5)
    assert len(decode(outputs, (64, 64), (1, 1), 0.6)) == 0
    assert isinstance(decode(outputs, (64, 64), (1, 1), 0.6), Faces)


def test_a_file_that_is_no_detector_is_refused(tmp_path, exported):
    with pytest.raises(EngineError, match="does not exist"):
        open_detector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(EngineError, match="no ONNX file"):
        open_detector(tmp_path / "text.onnx")
    with pytest.raises(EngineError, match="not a YuNet-format"):
        open_detector(exported / "manet.onnx")
