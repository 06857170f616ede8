"""The faces of one picture: the whole picture, or what a detector finds in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from feredge.runtime.detect.base import Detector
from feredge.runtime.errors import SourceError
from feredge.runtime.preprocess.geometry import whole_picture
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.results import Array, Faces
from feredge.runtime.sources.pictures import read_picture
from feredge.runtime.spec import CropSpec, InputSpec


@dataclass(frozen=True)
class PictureFaces:
    """The face boxes of a picture.

    `picture_bgr` is `(h, w, 3)` uint8, `boxes_xyxy` `(n, 4)`, or with the roll `(n, 5)`, best
    first. `whole` is the crop that takes a picture which already is a face crop; None for a scene.
    `faces` are the `n` detected faces of a scene; None for a face crop.
    """

    picture_bgr: Array
    boxes_xyxy: Array
    whole: CropSpec | None
    faces: Faces | None = None

    def crops(self, input: InputSpec, crop: CropSpec) -> Array:
        """Return the faces as a network's input, `(n, 3, side, side)` float32."""
        return crop_faces(self.picture_bgr, self.boxes_xyxy, input, self.whole or crop)


class FaceReader:
    """Reads pictures and finds their faces; records the pictures that failed.

    Args:
        detector: the pictures are scenes; None: each picture is one face crop, taken whole.
        max_faces: the best so many of a scene; None: all.

    Attributes:
        broken: why each unreadable picture could not be read.
        without_face: the scenes in which no face was found.
    """

    def __init__(self, detector: Detector | None = None, max_faces: int | None = None) -> None:
        self.detector, self.max_faces = detector, max_faces
        self.broken: dict[Path, str] = {}
        self.without_face: list[Path] = []

    def read(self, file: Path) -> PictureFaces | None:
        """Return the faces of a picture, one at least; None where there are none."""
        try:
            picture = read_picture(file)
        except SourceError as error:
            self.broken[file] = str(error)
            return None
        if self.detector is None:
            return PictureFaces(picture, *whole_picture(picture.shape))
        faces = self.detector.detect(picture).within(picture.shape)
        if not len(faces):
            self.without_face.append(file)
            return None
        faces = faces[: self.max_faces]
        return PictureFaces(picture, faces.oriented_boxes, None, faces)
