"""Face detection: a YuNet-format network in onnxruntime, and its decoder.

Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20,
2023 (doi 10.1007/s11633-023-1423-y).
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from feredge.runtime.detect.base import Detector
from feredge.runtime.detect.sizes import DetectionSize
from feredge.runtime.engines.onnxruntime import open_session, run_session
from feredge.runtime.errors import EngineError
from feredge.runtime.gpu.frame_layout import bgr_of
from feredge.runtime.results import Array, Faces

STRIDES = (8, 16, 32)
PARTS = ("cls", "obj", "bbox", "kps")
OUTPUTS = [f"{part}_{stride}" for part in PARTS for stride in STRIDES]
VALUES = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # per cell
# YuNet's own is 0.3. A second box, a few pixels beside that of a face under 18 px, is then kept;
# 0.2 drops it, and the same faces are found (benchmarks/results/detectors.json).
NMS_IOU = 0.2
LARGE_FACE = 0.25  # of the frame's longer side: larger faces are taken from the coarse detection
MAX_PX = 1e6  # of a box: a damaged network's may be infinite


class YuNetDetector(Detector):
    """A YuNet-format network, with a dynamic input or a fixed one, in onnxruntime.

    Args:
        path: of the ONNX file.
        size: selects the long side to which a frame is scaled.
        threads: CPU threads per call; None: one per core.
    """

    def __init__(self, path: Path, size: DetectionSize, threads: int | None = None) -> None:
        self.session = open_session(path, threads)
        self.input_name, self.fixed = input_of(self.session, path)
        self.size = replace(size, most_px=max(self.fixed)) if self.fixed else size
        self.name = str(path)

    def detect(self, frame_bgr: Array) -> Faces:
        """Find the faces of a frame.

        Args:
            frame_bgr: `(h, w, 3)` uint8; also `(h, w, 4)` BGRx or `(h * 3 / 2, w)` NV12.

        Returns:
            Faces in the frame's own pixels, best first.

        Raises:
            EngineError: the network cannot run, or its outputs are not YuNet's.
        """
        frame_bgr = bgr_of(frame_bgr)
        faces = self.detect_at(frame_bgr, self.size.of(frame_bgr.shape))
        coarse = None if self.fixed else self.size.coarse_size(frame_bgr.shape)
        if coarse is None:
            return faces
        return merge_scales(faces, self.detect_at(frame_bgr, coarse), max(frame_bgr.shape[:2]))

    def detect_at(self, frame_bgr: Array, size_px: int) -> Faces:
        """Find the faces of a frame, `(h, w, 3)` uint8, scaled to a long side of `size_px`."""
        start = time.perf_counter()
        canvas, scale = padded_input(frame_bgr, size_px, self.fixed)
        feed = {self.input_name: canvas}
        outputs = dict(zip(OUTPUTS, run_session(self.session, OUTPUTS, feed, self.name)))
        check_outputs(outputs, canvas.shape[2:], self.name)
        faces = decode(outputs, canvas.shape[2:], scale, self.size.options.min_score)
        self.size.record(time.perf_counter() - start, canvas.shape[2] * canvas.shape[3])
        return faces

    def close(self) -> None:
        """Free the session."""
        self.session = None


def input_of(session: Any, path: Path) -> tuple[str, tuple[int, int] | None]:
    """Return the name of a YuNet-format network's input and its fixed `(h, w)`, if it has one.

    Raises:
        EngineError: the inputs and outputs are not YuNet's.
    """
    inputs = session.get_inputs()
    missing = set(OUTPUTS) - {value.name for value in session.get_outputs()}
    if missing or len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise EngineError(f"{path} is not a YuNet-format face detector: expected one image input "
                          f"and outputs {OUTPUTS[0]} to {OUTPUTS[-1]}")
    height, width = inputs[0].shape[2:]
    fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return inputs[0].name, fixed


def output_shape(name: str, canvas: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of one output, `(1, cells, values)`, for a canvas of `(h, w)` px."""
    part, stride = name.split("_")
    cells = (canvas[0] // int(stride)) * (canvas[1] // int(stride))
    return 1, cells, VALUES[part]


def check_outputs(outputs: dict[str, Array], canvas: tuple[int, ...], name: str) -> None:
    """Check the shapes of all outputs.

    Raises:
        EngineError: one is not YuNet's.
    """
    for output, values in outputs.items():
        expected = output_shape(output, canvas)
        if values.shape != expected or values.dtype.kind != "f":
            raise EngineError(f"{name} is not a YuNet-format face detector: its output {output} is "
                              f"{values.shape} {values.dtype}, expected {expected} float32")


def padded_input(
    frame_bgr: Array, size_px: int, fixed: tuple[int, int] | None
) -> tuple[Array, tuple[float, float]]:
    """Scale a frame, anchored top left, onto a canvas padded with zeros.

    Returns:
        `(1, 3, h, w)` float32, BGR, 0 to 255, sides multiples of 32 or the network's fixed ones;
        and the scale from the frame to it along x and y.
    """
    height, width = frame_bgr.shape[:2]
    inner, shape = canvas_size(frame_bgr.shape, size_px, fixed)
    interpolation = cv2.INTER_AREA if inner[0] < width / 2 else cv2.INTER_LINEAR
    small = cv2.resize(frame_bgr, inner, interpolation=interpolation)
    canvas = np.zeros((1, 3, *shape), np.float32)
    canvas[0, :, : inner[1], : inner[0]] = small.transpose(2, 0, 1)
    return canvas, (inner[0] / width, inner[1] / height)


def canvas_size(
    frame_shape: tuple[int, ...], size_px: int, fixed: tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size of the scaled frame, `(w, h)`, and of the canvas around it, `(h, w)`."""
    height, width = frame_shape[:2]
    ratio = (min(size_px, *fixed) if fixed else size_px) / max(height, width)
    inner = max(round(width * ratio), 1), max(round(height * ratio), 1)
    return inner, fixed or (-(-inner[1] // 32) * 32, -(-inner[0] // 32) * 32)


def decode(
    outputs: dict[str, Array], shape: tuple[int, ...], scale: tuple[float, float], min_score: float
) -> Faces:
    """Return the faces of a YuNet-format network's outputs.

    Args:
        outputs: per stride `cls`, `obj` `(1, m, 1)`, `bbox` `(1, m, 4)`, `kps` `(1, m, 10)`.
        shape: height and width of the canvas.
        scale: from the frame to the canvas, along x and y.
        min_score: faces below it are dropped.
    """
    cells, scores = cells_above(outputs, min_score)
    if not len(cells):
        return Faces.empty()
    starts = np.cumsum([0, *(outputs[f"cls_{stride}"].shape[1] for stride in STRIDES)])
    edges = np.searchsorted(cells, starts)
    levels = [level_faces(outputs, stride, shape[1] // stride, cells[low:high] - start)
              for stride, start, low, high in zip(STRIDES, starts, edges, edges[1:]) if low < high]
    boxes, landmarks, good = (
        parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*levels))
    boxes, landmarks, scores = boxes[good], landmarks[good], scores[good]
    rows = suppress_overlaps(boxes, scores)
    factor = np.array(scale)
    return Faces.from_detections(
        boxes[rows] / np.tile(factor, 2), landmarks[rows] / factor, scores[rows]
    )


def suppress_overlaps(boxes: Array, scores: Array) -> Array:
    """Return the rows of the boxes that overlap no better one, best first, `(k,)` int64."""
    widths_heights = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(widths_heights.tolist(), scores.tolist(), 0.0, NMS_IOU)
    rows = np.asarray(kept, np.int64).reshape(-1)
    best_first: Array = rows[np.argsort(-scores[rows], kind="stable")]
    return best_first


def merge_scales(fine: Faces, coarse: Faces, longer_px: int) -> Faces:
    """Join the detections of one frame at two sizes: small faces of the fine, large of the coarse.

    Args:
        fine: at a large size; faces that fill the canvas have boxes that are too small there.
        coarse: at a small size.
        longer_px: the longer side of the frame.
    """
    parts = fine[sides(fine) < LARGE_FACE * longer_px], coarse[sides(coarse) >= longer_px / 6]
    boxes, landmarks, scores = (
        np.concatenate([getattr(faces, name) for faces in parts])
        for name in ("boxes_xyxy", "landmarks", "scores"))
    rows = suppress_overlaps(boxes, scores)
    return Faces.from_detections(boxes[rows], landmarks[rows], scores[rows])


def sides(faces: Faces) -> Array:
    """Return the longer side of each box in px, `(n,)`."""
    longer: Array = (faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).max(axis=1, initial=0)
    return longer


def cells_above(outputs: dict[str, Array], min_score: float) -> tuple[Array, Array]:
    """Return the cells that hold a face, `(k,)` int64 over all strides, and their scores."""
    classes, objects = (np.concatenate([outputs[f"{part}_{stride}"][0, :, 0] for stride in STRIDES])
                        for part in ("cls", "obj"))
    # The product before clipping is never smaller where both are positive: a cheap first choice.
    cells = np.flatnonzero(classes * objects >= 0.999 * min_score**2)
    scores = np.sqrt(np.clip(classes[cells], 0, 1) * np.clip(objects[cells], 0, 1))
    above = scores >= min_score
    return cells[above], scores[above]


def level_faces(
    outputs: dict[str, Array], stride: int, columns: int, cells: Array
) -> tuple[Array, Array, Array]:
    """Decode the cells of one stride that hold a face.

    Args:
        outputs: see `decode`.
        stride: of the level, in px of the canvas.
        columns: cells per row.
        cells: `(k,)` int64.

    Returns:
        Boxes `(k, 4)` and landmarks `(k, 5, 2)` on the canvas, and a mask `(k,)`: false where a
        damaged network places a face at no finite position.
    """
    boxes, points = (outputs[f"{part}_{stride}"][0][cells] for part in ("bbox", "kps"))
    origins = np.empty((len(cells), 2), np.float32)
    origins[:, 1], origins[:, 0] = np.divmod(cells, columns)
    with np.errstate(over="ignore", invalid="ignore"):
        centers = (origins + boxes[:, :2]) * stride
        halves = np.exp(boxes[:, 2:]) * stride / 2
        found = np.concatenate([centers - halves, centers + halves], axis=1)
        landmarks = (origins[:, None] + points.reshape(-1, 5, 2)) * stride
        good = np.abs(found).max(axis=1) + np.abs(landmarks).max(axis=(1, 2)) <= MAX_PX
        good &= (halves > 0).all(axis=1)
    return found, landmarks, good
