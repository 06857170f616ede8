"""The layers of an annotated picture: blur, boxes, labels, bars; each one can be used alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from feredge.runtime.outputs.base import Bars
from feredge.runtime.outputs.layout import (
    DARK_BGR,
    LIGHT_BGR,
    Layout,
    Rectangle,
    ink,
    least_line_px,
    line_px,
    text_width,
    write_text,
)
from feredge.runtime.palette import LABEL_COLORS_BGR, Bgr
from feredge.runtime.results import Array, Faces

# People and networks recognize faces in mosaics of 16 and even 8 cells (McPherson, Shokri,
# Shmatikov: "Defeating Image Obfuscation with Deep Learning", 2016).
MOSAIC = 4
UNSURE_BGR: Bgr = (150, 150, 150)
FORMS = 4  # of a label, from the longest to three letters
BAR_LINES = 4.0  # length of a bar of probability 1, in lines of text


def label_color(label_id: int) -> Bgr:
    """Return the color of a class; gray for a face that is unsure."""
    return UNSURE_BGR if label_id < 0 else LABEL_COLORS_BGR[label_id % len(LABEL_COLORS_BGR)]


def blur_faces(frame_bgr: Array, boxes_xyxy: Array) -> Array:
    """Return a copy of a frame whose faces, with a quarter around them, are a few flat cells.

    Args:
        frame_bgr: `(h, w, 3)` uint8.
        boxes_xyxy: `(n, 4)`; may reach outside the frame.
    """
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


@dataclass(frozen=True)
class BoxLayer:
    """A box around each face, in the color of its label, with a dark edge on both sides."""

    def draw(self, canvas: Array, faces: Faces, layout: Layout) -> None:
        """Draw onto a canvas, `(h, w, 3)` uint8."""
        for (x0, y0, x1, y1), label_id in zip(layout.boxes, faces.label_ids.tolist()):
            thickness = max(line_px(canvas.shape, (x0, y0, x1, y1)) // 8, 1)
            cv2.rectangle(canvas, (x0, y0), (x1, y1), DARK_BGR, thickness + 2)
            cv2.rectangle(canvas, (x0, y0), (x1, y1), label_color(label_id), thickness)


@dataclass(frozen=True)
class LabelLayer:
    """The label of each face, above or below its box, with its track and probability.

    All labels of a picture have one form: the longest with which most of them have room. A label
    without room outside stands in its own box, and without room there, the face has its box only.
    """

    labels: tuple[str, ...]

    def draw(self, canvas: Array, faces: Faces, layout: Layout) -> None:
        """Draw onto a canvas, `(h, w, 3)` uint8."""
        grown = max((line_px(canvas.shape, box) for box in layout.boxes), default=0)
        forms = [(grown, 0), *((least_line_px(canvas.shape), form) for form in range(FORMS))]
        best = PlacedLabels(0, missing=2 * len(layout.boxes) + 1)
        for form in forms:
            placed = self.place_all(faces, layout, *form)
            best = placed if placed.missing < best.missing else best
            if not best.missing:
                break
        layout.panels += best.places.values()
        for k, place in best.places.items():
            color, line = label_color(int(faces.label_ids[k])), place[3] - place[1]
            cv2.rectangle(canvas, place[:2], (place[2] - 1, place[3] - 1), color, cv2.FILLED)
            write_text(canvas, self.text(faces, k, best.form), place[:2], line, ink(color))

    def place_all(self, faces: Faces, layout: Layout, most_line: int, form: int) -> PlacedLabels:
        """Return where the labels of all faces go in one form, the largest faces first."""
        trial, placed = replace(layout, panels=list(layout.panels)), PlacedLabels(form)
        waiting = largest_first(layout)
        for is_outside in (True, False):
            for k in list(waiting):
                line = min(line_px(layout.shape, layout.boxes[k]), most_line)
                size = text_width(self.text(faces, k, form), line), line
                place = trial.first_free(corners(layout, k, line, is_outside), size, owner=k)
                if place is not None:
                    trial.panels.append(place)
                    placed.places[k] = place
                    waiting.remove(k)
            placed.missing += len(waiting)
        return placed

    def text(self, faces: Faces, k: int, form: int) -> str:
        """Return the text of a face in a form; 0 is the longest."""
        label_id, track_id = int(faces.label_ids[k]), int(faces.track_ids[k])
        name, percent = (("unsure", "") if label_id < 0 else
                         (self.labels[label_id], f"{faces.probabilities[k, label_id]:.0%}"))
        number = f"{track_id}: " if track_id >= 0 else ""
        longest = f"{number}{name} {percent}".rstrip()
        forms = longest, f"{number}{name}", f"{number}{name[:3]}", name[:3]
        return forms[form]


@dataclass
class PlacedLabels:
    """The places of labels by face; `missing` counts those without room, double if there is none.

    A label in its own box counts once, as it hides a part of the face.
    """

    form: int
    places: dict[int, Rectangle] = field(default_factory=dict)
    missing: int = 0


def corners(layout: Layout, k: int, line: int, is_outside: bool) -> list[tuple[int, int]]:
    """Return the corners of a label above or below the box of a face, or inside it."""
    x0, y0, _, y1 = layout.boxes[k]
    if is_outside:
        return [(x0, y0 - line), (x0, y1)]
    return [(x0, max(y0, 0)), (x0, min(y1, layout.shape[0]) - line)]


@dataclass(frozen=True)
class BarsLayer:
    """A panel beside each face with a bar for the probability of each class.

    `auto`: only where there is free room beside the face. `on`: also over other faces.
    """

    labels: tuple[str, ...]
    bars: Bars = "auto"

    def draw(self, canvas: Array, faces: Faces, layout: Layout) -> None:
        """Draw onto a canvas, `(h, w, 3)` uint8."""
        if self.bars == "off" or faces.probabilities.shape[1] == 0:
            return
        for k in largest_first(layout):
            lines = sorted({line_px(canvas.shape, layout.boxes[k]), least_line_px(canvas.shape)})
            for line in reversed(lines):
                must_draw = self.bars == "on" and line == lines[0]
                place = self.place(layout, k, line, must_draw)
                if place is not None:
                    layout.panels.append(place)
                    self.draw_panel(canvas, faces.probabilities[k], place, line)
                    break

    def names_width(self, line: int) -> int:
        """Return the width of the column of names."""
        return max(text_width(name, line) for name in self.labels)

    def place(self, layout: Layout, k: int, line: int, must_draw: bool) -> Rectangle | None:
        """Return a place right or left of a face, at its top, bottom or middle."""
        x0, y0, x1, y1 = layout.boxes[k]
        width = self.names_width(line) + round((BAR_LINES + 0.25) * line)
        height, gap = line * len(self.labels), max(line // 8, 1) + 1
        rows = [clamp(y, layout.shape[0] - height)
                for y in (y0, y1 - height, (y0 + y1 - height) // 2)]
        sides = [x for x in (x1 + gap, x0 - gap - width)
                 if x >= 0 and x + width <= layout.shape[1]]
        corners = [(x, y) for x in sides for y in rows]
        place = layout.first_free(corners, (width, height))
        if place is None and must_draw:
            x = clamp(x1 + gap, layout.shape[1] - width)
            x, y = corners[0] if corners else (x, rows[0])
            place = (x, y, x + width, y + height)
        return place

    def draw_panel(
        self, canvas: Array, probabilities: Array, place: Rectangle, line: int
    ) -> None:
        """Draw the names and bars of one face, `(classes,)`, onto a darkened panel."""
        x, y = place[:2]
        area, names = canvas[y : place[3], x : place[2]], self.names_width(line)
        area >>= 2
        for k, (name, probability) in enumerate(zip(self.labels, probabilities.tolist())):
            top = y + k * line
            write_text(canvas, name, (x, top), line, LIGHT_BGR)
            right = x + names + max(round(probability * BAR_LINES * line), 1)
            cv2.rectangle(canvas, (x + names, top + line // 5), (right, top + line - line // 5),
                          label_color(k), cv2.FILLED)


def clamp(position: int, most: int) -> int:
    """Return a position within 0 and `most`; 0 if that is negative."""
    return max(min(position, most), 0)


def largest_first(layout: Layout) -> list[int]:
    """Return the indices of the faces by the width of their boxes."""
    return sorted(range(len(layout.boxes)), key=lambda k: layout.boxes[k][0] - layout.boxes[k][2])
