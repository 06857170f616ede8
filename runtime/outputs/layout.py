"""Where texts and panels go in a picture: sizes of text, free rectangles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from feredge.runtime.palette import Bgr
from feredge.runtime.results import Array

FONT = cv2.FONT_HERSHEY_SIMPLEX
DARK_BGR, LIGHT_BGR = (25, 25, 25), (245, 245, 245)
# A line of text is LINES_ACROSS-th of the long side or more: its capitals, two thirds of it, are
# 10 px or more in a picture that is shown 1,200 px wide, also on the screen of a phone.
LINES_ACROSS, LEAST_LINE_PX, FACE_SHARE, LARGEST = 80, 15, 0.16, 2.0

Rectangle = tuple[int, int, int, int]  # x0, y0, x1, y1, px


def overlap(a: Rectangle, b: Rectangle) -> bool:
    """Return whether two rectangles share a pixel."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass
class Layout:
    """The rectangles that are taken in a picture of `(h, w)` px.

    Attributes:
        shape: height and width.
        boxes: the boxes of the faces, one per face.
        panels: the labels and panels that are placed already.
    """

    shape: tuple[int, int]
    boxes: list[Rectangle]
    panels: list[Rectangle] = field(default_factory=list)

    @staticmethod
    def of(frame_bgr: Array, boxes_xyxy: Array) -> Layout:
        """Return the layout of a frame with these `(n, 4)` boxes and nothing else."""
        rounded = np.rint(np.nan_to_num(boxes_xyxy)).clip(-(2**24), 2**24).astype(int)
        height, width = frame_bgr.shape[:2]
        return Layout((height, width), [(x0, y0, x1, y1) for x0, y0, x1, y1 in rounded.tolist()])

    def is_free(self, place: Rectangle, owner: int | None = None) -> bool:
        """Return whether a rectangle is inside the picture and over no other face or panel.

        Args:
            place: the rectangle.
            owner: the index of a face that it may cover.
        """
        x0, y0, x1, y1 = place
        if x0 < 0 or y0 < 0 or x1 > self.shape[1] or y1 > self.shape[0]:
            return False
        others = (box for k, box in enumerate(self.boxes) if k != owner)
        return not any(overlap(place, other) for other in (*others, *self.panels))

    def first_free(
        self, corners: Iterable[tuple[int, int]], size: tuple[int, int], owner: int | None = None
    ) -> Rectangle | None:
        """Return the first free rectangle of a size at one of the corners, moved into the picture.

        Args:
            corners: top left corners, the best one first.
            size: width and height.
            owner: the index of a face that it may cover.
        """
        for x, y in corners:
            x = max(min(x, self.shape[1] - size[0]), 0)
            place = (x, y, x + size[0], y + size[1])
            if self.is_free(place, owner):
                return place
        return None


def least_line_px(shape: tuple[int, ...]) -> int:
    """Return the least height of a line of text in a picture of `(h, w, ...)`."""
    return max(round(max(shape[:2]) / LINES_ACROSS), LEAST_LINE_PX)


def line_px(shape: tuple[int, ...], box: Rectangle) -> int:
    """Return the height of a line of text of a face: it grows with the face, within limits."""
    least = least_line_px(shape)
    return min(max(round((box[2] - box[0]) * FACE_SHARE), least), round(LARGEST * least))


def text_scale(line: int) -> float:
    """Return the font scale whose capitals fill about two thirds of a line."""
    return line / 33


@lru_cache(maxsize=4096)
def text_width(text: str, line: int) -> int:
    """Return the width of a text in px, with a margin of a quarter of a line on both sides."""
    width: int = cv2.getTextSize(text, FONT, text_scale(line), max(line // 14, 1))[0][0]
    return width + line // 2


def write_text(canvas: Array, text: str, corner: tuple[int, int], line: int, color: Bgr) -> None:
    """Write one line of text into a rectangle with this top left corner."""
    base = corner[0] + line // 4, corner[1] + round(line * 0.78)
    cv2.putText(canvas, text, base, FONT, text_scale(line), color, max(line // 14, 1), cv2.LINE_AA)


def ink(background: Bgr) -> Bgr:
    """Return the text color with more contrast on a background."""
    blue, green, red = background
    return DARK_BGR if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else LIGHT_BGR
