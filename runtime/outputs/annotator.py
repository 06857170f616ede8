"""Draw faces onto a frame: box, label, probability, and a bar for each class."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from feredge.runtime.palette import LABEL_COLORS_BGR, Bgr
from feredge.runtime.results import Array, Faces

# People and networks recognize faces in mosaics of 16 and even 8 cells (McPherson, Shokri,
# Shmatikov: "Defeating Image Obfuscation with Deep Learning", 2016).
MOSAIC = 4
FONT = cv2.FONT_HERSHEY_SIMPLEX
DARK_BGR, LIGHT_BGR = (25, 25, 25), (245, 245, 245)


@dataclass(frozen=True)
class Annotator:
    """How faces are drawn; sizes follow the frame's.

    `labels` are the classes in the order of the probabilities, `bars` adds one for each of them.
    """

    labels: tuple[str, ...]
    bars: bool = True

    def draw(self, frame_bgr: Array, faces: Faces) -> Array:
        """Return a copy of an `(h, w, 3)` uint8 frame with its classified faces drawn in."""
        canvas: Array = frame_bgr.copy()
        line = line_px(canvas)
        rows = zip(faces.boxes_xyxy, faces.probabilities, faces.label_ids, faces.track_ids)
        for box, probabilities, shown, track_id in rows:
            color = LABEL_COLORS_BGR[shown % len(LABEL_COLORS_BGR)]
            x0, y0, x1, y1 = (round(float(edge)) for edge in box)
            thickness = max(line // 8, 1)
            cv2.rectangle(canvas, (x0, y0), (x1, y1), DARK_BGR, thickness + 2)
            cv2.rectangle(canvas, (x0, y0), (x1, y1), color, thickness)
            number = f"{track_id}: " if track_id >= 0 else ""
            text = f"{number}{self.labels[shown]} {probabilities[shown]:.0%}"
            self.draw_caption(canvas, text, (x0, y0), color, line)
            if self.bars:
                self.draw_bars(canvas, probabilities, (x0, y0, x1, y1), line)
        return canvas

    def draw_caption(
        self, canvas: Array, text: str, corner: tuple[int, int], color: Bgr,
        line: int,
    ) -> None:
        """Write the label above the box's top left corner, or inside where there is no room."""
        width = text_width(text, line) + line // 2
        x = max(min(corner[0], canvas.shape[1] - width), 0)
        top = corner[1] - line if corner[1] >= line else max(corner[1], 0)
        cv2.rectangle(canvas, (x, top), (x + width, top + line), color, cv2.FILLED)
        write(canvas, text, (x + line // 4, top), line, DARK_BGR)

    def draw_bars(
        self, canvas: Array, probabilities: Array, box: tuple[int, int, int, int], line: int
    ) -> None:
        """Draw a table of names and bars beside the box, where the frame has most room for it."""
        names = max(text_width(name, line) for name in self.labels) + line // 2
        width, height = names + 5 * line, line * len(self.labels)
        x, y = beside(box, (width, height), canvas.shape[:2])
        area = canvas[y : y + height, x : x + width]
        area[:] = area // 3
        for k, (name, probability) in enumerate(zip(self.labels, probabilities)):
            top = y + k * line
            write(canvas, name, (x + line // 4, top), line, LIGHT_BGR)
            right = x + names + round(float(probability) * 4.75 * line)
            color = LABEL_COLORS_BGR[k % len(LABEL_COLORS_BGR)]
            cv2.rectangle(canvas, (x + names, top + line // 5), (right, top + line - line // 5),
                          color, cv2.FILLED)


def blur_faces(frame_bgr: Array, boxes_xyxy: Array) -> Array:
    """Return a copy of a frame whose faces, with a quarter around them, are a few flat cells."""
    canvas: Array = frame_bgr.copy()
    for x0, y0, x1, y1 in boxes_xyxy.tolist():
        across, down = (x1 - x0) / 4, (y1 - y0) / 4
        corners = np.array([x0 - across, y0 - down, x1 + across, y1 + down])
        left, top, right, bottom = np.clip(np.rint(corners), 0, 2**24).astype(int)
        area = canvas[top:bottom, left:right]
        if area.size:
            cells = cv2.resize(area, (MOSAIC, MOSAIC), interpolation=cv2.INTER_AREA)
            area[:] = cv2.resize(cells, area.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return canvas


def line_px(canvas: Array) -> int:
    """Return the height of a line of text: 12 px at 320x240, 80 px at 4K."""
    height, width = canvas.shape[:2]
    line: int = max(round(min(height, width) / 27), 12)
    return line


def beside(
    box: tuple[int, int, int, int], size: tuple[int, int], shape: tuple[int, ...]
) -> tuple[int, int]:
    """Return the corner of a table right of the box, left of it, or else over its lower edge."""
    (x0, y0, x1, y1), (width, height) = box, size
    rows, columns = shape
    if x1 + width <= columns:
        corner = x1, y0
    elif x0 - width >= 0:
        corner = x0 - width, y0
    else:
        corner = x0, y1
    return (int(np.clip(corner[0], 0, max(columns - width, 0))),
            int(np.clip(corner[1], 0, max(rows - height, 0))))


def text_scale(line: int) -> float:
    """Return the font scale whose capitals fill about two thirds of a line."""
    return line / 33


def text_width(text: str, line: int) -> int:
    """Return the width of a text in px."""
    width: int = cv2.getTextSize(text, FONT, text_scale(line), max(line // 14, 1))[0][0]
    return width


def write(
    canvas: Array, text: str, corner: tuple[int, int], line: int, color: Bgr
) -> None:
    """Write one line of text whose top left corner is given."""
    base = corner[0], corner[1] + round(line * 0.78)
    cv2.putText(canvas, text, base, FONT, text_scale(line), color, max(line // 14, 1), cv2.LINE_AA)
