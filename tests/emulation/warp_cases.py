"""Random launches of the warp kernel, what the reference makes of them, and how to run them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from feredge.runtime.gpu.color import color_of
from feredge.runtime.gpu.frame_layout import FORMATS, FrameLayout
from feredge.runtime.preprocess import cuda, reference
from feredge.runtime.preprocess.face_table import FaceTable, table_bytes
from feredge.runtime.spec import InputSpec

UNTOUCHED = 0x5A
ADDRESSES = (0, 32, 40, 8)  # where the kernel's arguments have those of Case.buffers()
PLAIN = InputSpec(1)
IMAGENET = InputSpec(1, "bgr", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass
class Case:
    """One launch. `pixels` and `chroma` are `(rows, pitch)` uint8, `matrices` `(n, 2, 3)`."""

    layout: FrameLayout
    pixels: np.ndarray
    matrices: np.ndarray
    samples: np.ndarray
    size: tuple[int, int]
    chroma: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    capacity: int = 0
    input: InputSpec = PLAIN
    fp16: bool = False
    black: bool = False

    @property
    def max_faces(self) -> int:
        return max(self.capacity, len(self.matrices), 1)

    @property
    def dtype(self) -> Any:
        return np.float16 if self.fp16 else np.float32

    def packed(self) -> np.ndarray:
        packed = np.zeros(table_bytes(1, self.max_faces), np.uint8)
        table = FaceTable(packed, 1, self.max_faces)
        table.add_frame(self.matrices, self.samples, self.size, self.layout)
        return packed

    def buffers(self) -> list[np.ndarray]:
        """Return what a launch reads and writes: frame, faces, crops, and NV12's UV."""
        row = self.layout.width * FORMATS[self.layout.pixels].bytes_per_pixel
        # Without what the pitch adds to the last row: a camera's buffer may end there.
        frame = self.pixels.reshape(-1)[: self.pixels.size - self.pixels.shape[1] + row]
        crops = np.full(self.crops_bytes(), UNTOUCHED, np.uint8)
        return [frame, self.packed(), crops, *([self.chroma] if self.chroma.size else [])]

    def buffer_bytes(self) -> list[int]:
        return [buffer.nbytes for buffer in self.buffers()]

    def crops_bytes(self) -> int:
        return self.max_faces * 3 * self.size[0] * self.size[1] * self.dtype().itemsize

    def expected(self) -> np.ndarray:
        """Return the reference's crops before they are rounded, `(n, 3, h, w)` float64."""
        crops = [self.warped(*face) for face in zip(self.matrices, self.samples)]
        stacked = np.stack(crops) if crops else np.zeros((0, *self.size, 3))
        if FORMATS[self.layout.pixels].order not in ("", self.input.channels):
            stacked = stacked[..., ::-1]
        normalised = (stacked / 255 - self.input.mean) / self.input.std
        return normalised.transpose(0, 3, 1, 2)

    def warped(self, matrix: np.ndarray, samples: int) -> np.ndarray:
        layout, black = self.layout, self.black
        form = FORMATS[layout.pixels]
        rows = self.pixels[:, : layout.width * form.bytes_per_pixel]
        if layout.pixels == "nv12":
            chroma = self.chroma[:, : (layout.width + 1) // 2 * 2]
            uv = chroma.reshape(len(chroma), -1, 2)
            color = color_of(layout.color, layout.full_range)
            return reference.warp_nv12((rows, uv), matrix, samples, self.size, color, black)
        frame = rows.reshape(layout.height, layout.width, form.bytes_per_pixel)[..., :3]
        warped = reference.warp(frame, matrix, samples, self.size, black)
        return np.broadcast_to(warped, (*self.size, 3))

    def tolerance(self, expected: np.ndarray) -> np.ndarray:
        """Return what a value may differ by: half a level, float32 positions, half's rounding."""
        side = max(self.layout.width, self.layout.height)
        values = (0.5 / 255 + 1e-5 + 4 * 2**-24 * side) / np.array(self.input.std)[:, None, None]
        return values + (np.abs(expected) * 2**-11 + 2**-25 if self.fp16 else 0)

    def undecided(self) -> np.ndarray:
        """Tell, `(n, 1, h, w)`, whose samples may fall on either side of a black border."""
        shape = (len(self.matrices), 1, *self.size)
        if not self.black:
            return np.zeros(shape, bool)
        edges = np.array([self.layout.width, self.layout.height])
        near = []
        for matrix, samples in zip(self.matrices, self.samples):
            x, y = reference.sample_positions(matrix, samples, self.size)
            doubt = np.zeros(x.shape)
            for position, edge in zip((x, y), edges):
                doubt[np.minimum(abs(position), abs(position - edge)) < 1e-4 * edges.max()] = 1
            near.append(reference.means(doubt, int(samples)) > 0)
        return np.array(near, bool).reshape(shape)


def check(case: Case, crops: np.ndarray) -> None:
    """Hold what the kernel made, all bytes of its output, to the reference."""
    count = len(case.matrices)
    values = crops.view(case.dtype).reshape(-1, 3, *case.size)
    assert (values[count:].view(np.uint8) == UNTOUCHED).all(), "faces beyond the count were made"
    expected = case.expected()
    difference = np.abs(values[:count].astype(np.float64) - expected)
    wrong = ~(difference <= case.tolerance(expected)) & ~case.undecided()
    assert not wrong.any(), f"off by {difference[wrong].max():.3g} at {np.argwhere(wrong)[0]}"
    if not case.fp16:
        mean, std = (np.array(part)[:, None, None] for part in (case.input.mean, case.input.std))
        levels = 255 * (values[:count].astype(np.float64) * std + mean)
        assert np.abs(levels - np.rint(levels)).max(initial=0) < 1e-3, "not in whole levels"


def run(module: Any, case: Case) -> np.ndarray:
    """Launch through PyCUDA and return all bytes of the output."""
    import pycuda.driver as driver

    kernel = cuda.WarpFaces(module, case.layout, case.input, case.size, case.fp16, case.black)
    crops = np.full(case.crops_bytes(), UNTOUCHED, np.uint8)
    frame, chroma, faces, out = (
        driver.to_device(array) if array.size else None
        for array in (case.pixels, case.chroma, case.packed(), crops)
    )
    stream = driver.Stream()
    kernel.launch(int(frame), int(faces), int(out), case.max_faces, stream,
                  int(chroma) if chroma else 0)
    driver.memcpy_dtoh_async(crops, out, stream)
    stream.synchronize()
    return crops


def recorded(case: Case) -> bytes:
    """Return the launch as `run_launch` reads it."""
    launches: list[tuple[Any, ...]] = []

    class Function:
        def prepare(self, arguments: str) -> None:
            self.format = arguments

        def prepared_async_call(self, grid: Any, block: Any, stream: Any, *values: Any) -> None:
            launches.append((grid, block, struct.pack(self.format, *values)))

    class Module:
        def get_function(self, name: str) -> Function:
            self.name = name.encode()
            return Function()

    module, nv12 = Module(), case.layout.pixels == "nv12"
    kernel = cuda.WarpFaces(module, case.layout, case.input, case.size, case.fp16, case.black)
    kernel.launch(64, 64, 64, case.max_faces, None, 64 if nv12 else 0)
    ((grid, block, arguments),) = launches
    buffers = case.buffers()
    parts = [struct.pack("I", len(module.name)), module.name,
             struct.pack("7I", *grid, *block, len(buffers)), counted(arguments)]
    parts += [struct.pack("I", place) + counted(array.tobytes())
              for place, array in zip(ADDRESSES, buffers)]
    return b"".join(parts)


def counted(content: bytes) -> bytes:
    return struct.pack("I", len(content)) + content


def frame_of(
    pixels: str, width: int, height: int, seed: int = 0, extra: int = 0, **meaning: Any
) -> tuple[FrameLayout, np.ndarray, np.ndarray]:
    """Return a random frame: its layout, its rows and its UV rows, `extra` steps of pitch apart."""
    form, rng = FORMATS[pixels], np.random.default_rng(seed)
    pitch = width * form.bytes_per_pixel + extra * form.alignment
    chroma_pitch = (width + 1) // 2 * 2 + 2 * extra if pixels == "nv12" else 0
    layout = FrameLayout(pixels, width, height, pitch, chroma_pitch, **meaning)
    chroma_rows = (height + 1) // 2 if pixels == "nv12" else 0
    return (layout, rng.integers(0, 256, (height, pitch), np.uint8),
            rng.integers(0, 256, (chroma_rows, chroma_pitch), np.uint8))


def turned(centre: tuple[float, float], ratio: float, angle: float, size: tuple[int, int],
           stretch: float = 1.0) -> np.ndarray:
    """Return the matrix of a turned crop about a centre, `ratio` px of the frame a px of it."""
    cos, sin = np.cos(angle), np.sin(angle)
    linear = ratio * np.array([[cos, -sin * stretch], [sin, cos * stretch]])
    shift = np.array(centre) - linear @ np.array([size[1] / 2, size[0] / 2])
    return np.concatenate([linear, shift[:, None]], axis=1)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a small launch: any format, any border, boxes over any edge, upscaled to downscaled."""
    meaning = {"color": draw(st.sampled_from(["bt601", "bt709"])),
               "full_range": draw(st.booleans())}
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    layout, pixels, chroma = frame_of(
        draw(st.sampled_from(sorted(FORMATS))), width, height, draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(0, 5)), **meaning)
    size = draw(st.tuples(st.integers(1, 32), st.integers(1, 32)))
    count = draw(st.integers(0, 3))
    matrices, samples = np.zeros((count, 2, 3)), np.ones(count, np.int64)
    for k in range(count):
        ratio = draw(st.floats(0.05, 20))
        centre = (draw(st.floats(-0.3, 1.3)) * width, draw(st.floats(-0.3, 1.3)) * height)
        angle = draw(st.one_of(st.just(0.0), st.floats(-4, 4)))
        matrices[k] = turned(centre, ratio, angle, size, draw(st.floats(0.5, 2)))
        samples[k] = draw(st.one_of(st.just(min(int(np.ceil(ratio)), 8)), st.integers(1, 8)))
    return Case(layout, pixels, matrices, samples, size, chroma,
                count + draw(st.integers(0, 2)), draw(st.sampled_from([PLAIN, IMAGENET])),
                draw(st.booleans()), draw(st.booleans()))
