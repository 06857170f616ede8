"""The newest frame of a source, encoded on demand and once for all viewers."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable
from typing import Any

import cv2

from feredge.runtime.outputs.base import face_record
from feredge.runtime.results import Array, FrameResult

JPEG_QUALITY = 80
IN_VIEW_S = 2.0  # faces of an older frame may have left

Annotate = Callable[[FrameResult], Array]


class PageFrame:
    """One result, and its picture once a viewer has asked for it.

    Args:
        result: the result; its frame is sent as it is, and annotated for plain MJPEG viewers.
        number: counts the frames of the page, so that a viewer can ask for a newer one.
    """

    def __init__(self, result: FrameResult, number: int) -> None:
        self.result, self.number, self.arrival_s = result, number, time.monotonic()
        self.encodings: dict[str, asyncio.Future[bytes]] = {}

    @property
    def is_fresh(self) -> bool:
        """Whether its faces may still be in view; without a capture time, since it arrived."""
        captured_s = self.result.frame.captured_s
        since_s = self.arrival_s if captured_s is None else captured_s
        return time.monotonic() - since_s < IN_VIEW_S

    def faces(self, labels: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return the faces with the field names of the JSON lines."""
        faces = self.result.faces
        return [face_record(faces, k, labels) for k in range(len(faces))]

    async def jpeg(self) -> bytes:
        """Return the frame as JPEG."""
        return await self.encode("plain", lambda: encode_jpeg(self.result.frame.frame_bgr))

    async def annotated_jpeg(self, annotate: Annotate) -> bytes:
        """Return the annotated frame as JPEG."""
        return await self.encode("annotated", lambda: encode_jpeg(annotate(self.result)))

    async def encode(self, kind: str, encode: Callable[[], bytes]) -> bytes:
        """Encode in another thread; all viewers of a kind wait for the same bytes."""
        if kind not in self.encodings:
            loop = asyncio.get_running_loop()
            self.encodings[kind] = loop.run_in_executor(None, encode)
        return await asyncio.shield(self.encodings[kind])  # a viewer that leaves cancels nothing

    async def packet(self, labels: tuple[str, ...]) -> bytes:
        """Return what the page draws: 4 bytes big-endian length, JSON of that length, JPEG."""
        height, width = self.result.frame.frame_bgr.shape[:2]
        facts = json.dumps({"number": self.number, "width": width, "height": height,
                            "faces": self.faces(labels)}).encode()
        return struct.pack(">I", len(facts)) + facts + await self.jpeg()


def encode_jpeg(picture_bgr: Array) -> bytes:
    """Return an `(h, w, 3)` uint8 picture as JPEG."""
    _, content = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return content.tobytes()
