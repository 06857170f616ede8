"""Draw faces onto a frame: boxes, labels, and a bar per class where there is room."""

from __future__ import annotations

from dataclasses import dataclass

from feredge.runtime.outputs.base import Bars
from feredge.runtime.outputs.layers import BarsLayer, BoxLayer, LabelLayer, blur_faces
from feredge.runtime.outputs.layout import Layout
from feredge.runtime.results import Array, Faces

__all__ = ["Annotator", "blur_faces"]


@dataclass(frozen=True)
class Annotator:
    """Draws classified faces: no label or panel covers another face, label or panel.

    Attributes:
        labels: the class names, in the order of the probabilities; empty: those of the faces.
        bars: `auto`: a panel with a bar per class where there is free room beside the face; `on`:
            also over other faces; `off`: none.
    """

    labels: tuple[str, ...] = ()
    bars: Bars = "auto"

    def draw(self, frame_bgr: Array, faces: Faces) -> Array:
        """Return a copy of a frame with its faces drawn.

        Args:
            frame_bgr: `(h, w, 3)` uint8.
            faces: classified faces.

        Returns:
            `(h, w, 3)` uint8.
        """
        canvas: Array = frame_bgr.copy()
        layout, labels = Layout.of(canvas, faces.boxes_xyxy), self.labels or faces.class_names
        for layer in (BoxLayer(), LabelLayer(labels), BarsLayer(labels, self.bars)):
            layer.draw(canvas, faces, layout)
        return canvas
