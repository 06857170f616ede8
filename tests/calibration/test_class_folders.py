import warnings

import cv2
import pytest

from feredge.calibration.class_folders import class_ids
from feredge.calibration.face_folder import FaceFolder
from feredge.runtime.spec import CropSpec, InputSpec

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


@pytest.mark.parametrize(
    "name, number",
    [("Angry", 4), ("4_anger", 4), ("7. Contemptuous", 7), ("sad", 3), ("HAPPY", 1), ("other", -1)],
)
def test_a_folder_is_the_class_of_its_name_or_synonym(name, number):
    assert class_ids([name], LABELS).tolist() == [number]


@pytest.fixture
def fer2013(tmp_path, astronaut):
    """Folders as FER2013 is published, and one that is no class."""
    for name in ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise", "unclear"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), cv2.resize(astronaut, (48, 48)))
    return tmp_path


def test_every_face_of_fer2013_has_its_class_and_a_folder_that_is_no_class_is_named(fer2013):
    faces = FaceFolder(fer2013, InputSpec(32), CropSpec(), recommended=0)
    with pytest.warns(UserWarning, match=r"faces in unclear count as unlabeled") as warned:
        classes = faces.classes_of(LABELS)
        faces.classes_of(LABELS)
    assert classes.tolist() == [4, 5, 6, 1, 0, 3, 2, -1]
    assert len(warned) == 1


def test_folders_of_which_none_is_a_class_are_not_warned_about(fer2013):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faces = FaceFolder(fer2013 / "unclear", InputSpec(32), CropSpec(), recommended=0)
        assert faces.classes_of(LABELS).tolist() == [-1]
