"""What the warp kernel is told: frames it cannot read and faces it cannot take are refused."""

import numpy as np
import pytest

from feredge.runtime.gpu.frame_layout import FrameLayout
from feredge.runtime.preprocess.cuda import WarpFaces
from feredge.runtime.preprocess.face_table import FACE, HEADER, FaceTable, table_bytes
from feredge.runtime.preprocess.geometry import crop_matrices, scaled_frame
from feredge.runtime.spec import CropSpec, InputSpec

LAYOUT = FrameLayout("bgr", 3840, 2160, 3840 * 3)


def packed_records(boxes, side=48):
    matrices, samples = crop_matrices(np.array(boxes, float), CropSpec(), side)
    packed = np.zeros(table_bytes(1, len(boxes)), np.uint8)
    FaceTable(packed, 1, len(boxes)).add_frame(matrices, samples, (side, side), LAYOUT)
    return packed, packed[HEADER.itemsize:].view(FACE), matrices


def test_records_have_the_kernels_layout():
    assert FACE.itemsize == 48 and HEADER.itemsize == 16
    assert [FACE.fields[name][1] for name in FACE.names] == [0, 16, 24, 32, 40, 44]


def test_records_give_every_position_back():
    boxes = [[3800.3, 2100.7, 3860.9, 2190.2], [-5000, -5000, 9000, 9000], [10, 20, 30, 40]]
    packed, records, matrices = packed_records(boxes)
    assert packed[:4].view(np.int32)[0] == 3
    for record, matrix in zip(records, matrices):
        place = np.array([7.5, 41.25])
        centre = (record["matrix"].reshape(2, 2).astype(float) @ (place - record["anchor"])
                  + record["offset"] + record["origin"])
        # A position in pixel edges, and the pixel centre that the kernel counts in.
        assert np.allclose(centre + 0.5, matrix[:, :2] @ place + matrix[:, 2], atol=2e-3)


def test_origins_are_even_and_near_the_frame():
    _, records, _ = packed_records([[3800.3, 2100.7, 3860.9, 2190.2], [-5000, -900, 9000, 20]])
    assert (records["origin"] % 2 == 0).all()
    assert (records["offset"] >= 0).all() and (records["offset"] < 2).all()
    # A crop pixel of the second is 290 px wide: no whole position of it is nearer.
    assert (records["origin"] > -300).all() and (records["origin"] < [4140, 2460]).all()


@pytest.mark.parametrize(
    "fields, said",
    [
        (dict(pixels="yuyv"), "frames are 'yuyv', expected one of bgr, rgb"),
        (dict(width=0), "0x4"),
        (dict(pitch=23), "pitch is 23, expected at least 24 bytes"),
        (dict(pixels="bgra", pitch=33), "expected at least 32 bytes and a multiple of 4"),
        (dict(pixels="nv12"), "chroma_pitch is 0, expected at least 8 bytes and a multiple of 2"),
        (dict(pixels="nv12", chroma_pitch=9), "chroma_pitch is 9"),
        (dict(pixels="nv12", chroma_pitch=8, color="bt2020"), "color is 'bt2020'"),
    ],
)
def test_frames_that_the_kernel_cannot_read_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        FrameLayout(**{"pixels": "bgr", "width": 8, "height": 4, "pitch": 24, **fields})


def test_more_faces_than_there_is_room_for_are_refused():
    matrices, samples = crop_matrices(np.array([[0, 0, 9, 9]] * 3), CropSpec(), 8)
    with pytest.raises(ValueError, match="3 faces, expected at most 2"):
        empty_table(2).add_frame(matrices, samples, (8, 8), LAYOUT)
    with pytest.raises(ValueError, match=r"samples are \[9, 1, 1\], expected 1 to 8"):
        empty_table(3).add_frame(matrices, np.array([9, 1, 1]), (8, 8), LAYOUT)


def empty_table(faces, frames=1):
    return FaceTable(np.zeros(table_bytes(frames, faces), np.uint8), frames, faces)


def test_each_frame_of_a_batch_has_a_header_that_leads_to_its_faces():
    memory = np.zeros(table_bytes(4, 8), np.uint8)
    table, boxes = FaceTable(memory, 4, 8), np.array([[0, 0, 9, 9], [5, 5, 30, 40.0]])
    for part in (boxes[:1], boxes[:0], boxes):
        table.add_frame(*crop_matrices(part, CropSpec(), 8), (8, 8), LAYOUT)
    headers, faces = memory[:64].view(HEADER), memory[64:].view(FACE)
    assert headers["count"].tolist() == [1, 0, 2, 0] and headers["first"].tolist()[:3] == [0, 1, 1]
    for k, header in enumerate(headers[:3]):
        assert 16 * k + header["offset_bytes"] == 64 + 48 * header["first"]
    assert (faces[0], faces[2]) == (faces[1], faces[2]) and table.faces == 3


class Recorder:
    """Stands where PyCUDA's module and function do."""

    def get_function(self, name):
        self.name = name
        return self

    def prepare(self, arguments):
        self.arguments = arguments

    def prepared_async_call(self, *values):
        self.values = values


@pytest.mark.parametrize(
    "pixels, frame, chroma, faces, said",
    [
        ("bgra", 66, 0, 1, "expected multiples of 4 and 2"),
        ("nv12", 64, 33, 1, "chroma at 0x21"),
        ("nv12", 64, 0, 1, "chroma for nv12 only"),
        ("gray", 64, 64, 1, "chroma for nv12 only"),
        ("gray", 64, 0, 0, "max_faces is 0"),
        ("gray", 64, 0, 65536, "max_faces is 65536, expected 1 to 65535"),
    ],
)
def test_launches_that_the_kernel_cannot_take_are_refused(pixels, frame, chroma, faces, said):
    layout = FrameLayout(pixels, 8, 8, 32, 8 if pixels == "nv12" else 0)
    kernel = WarpFaces(Recorder(), layout, InputSpec(8))
    with pytest.raises(ValueError, match=said):
        kernel.launch(frame, 64, 64, faces, None, chroma)


def test_one_launch_covers_every_face_and_pixel():
    recorder = Recorder()
    kernel = WarpFaces(recorder, LAYOUT, InputSpec(97), fp16=True)
    kernel.launch(64, 64, 64, 16, None)
    assert recorder.name == "warp_interleaved3_replicate_fp16"
    assert recorder.values[:3] == ((4, 7, 16), (32, 4, 1), None)


@pytest.mark.parametrize(
    "inner, samples",
    [((640, 360), 1), ((300, 169), 1), ((160, 90), 1), ((159, 90), 3), ((40, 22), 8),
     ((80, 45), 2), ((32, 18), 5), ((20, 11), 8)],
)
def test_a_detectors_frame_is_averaged_where_it_shrinks_by_more_than_two(inner, samples):
    matrix, found = scaled_frame((180, 320, 3), inner)
    assert found.tolist() == [samples]
    assert np.allclose(matrix[0] @ [*inner, 1], [320, 180])
