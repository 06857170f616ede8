"""Fixtures: an emulated CUDA driver with PyCUDA and the warp kernel on it; a network camera."""

from __future__ import annotations

import http.server
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "emulation"))

import emulated_cuda
from emulated_cuda import or_skip


@pytest.fixture(scope="session")
def emulated_driver() -> Any:
    """The emulated libcuda, with `emulated_allocations()`; PyCUDA can be imported from now on."""
    return or_skip(emulated_cuda.load)


@pytest.fixture(scope="session")
def cuda_context(emulated_driver: Any) -> Iterator[Any]:
    """The primary context of the emulated device, current in this thread."""
    import pycuda.driver as cuda

    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    yield context
    context.pop()


@pytest.fixture(scope="session")
def warp_module(cuda_context: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The warp kernel, compiled by the code that compiles it on a GPU."""
    import pycuda.driver as cuda

    from feredge.runtime.gpu.kernel_cache import kernel_cubin
    from feredge.runtime.preprocess.cuda import SOURCE

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return cuda.module_from_buffer(
            kernel_cubin(SOURCE, (8, 7), cuda.get_driver_version()))


@pytest.fixture(scope="session")
def sanitized_runner() -> Callable[[Path], Path]:
    """From a .cu file to the program that runs its kernels under sanitizers."""
    return lambda kernel: or_skip(emulated_cuda.sanitized_runner, kernel)


@pytest.fixture(scope="session")
def nvcc() -> Path:
    """The CUDA toolkit's compiler."""
    path: Path = or_skip(emulated_cuda.nvcc)
    return path


class NetworkCamera:
    """An endless stream of JPEG pictures over HTTP, which a test stops, stalls and breaks."""

    def __init__(self, jpeg: bytes) -> None:
        self.jpeg, self.stalled, self.port = jpeg, False, 0
        self.server: http.server.ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream"

    def start(self) -> None:
        camera = self

        class Stream(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
                self.end_headers()
                while camera.server is self.server:
                    if not camera.stalled:
                        self.wfile.write(b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: "
                                         b"%d\r\n\r\n" % len(camera.jpeg) + camera.jpeg + b"\r\n")
                    time.sleep(0.02)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                pass  # its viewers hang up

        self.server = Server(("127.0.0.1", self.port), Stream)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.shutdown()
            server.server_close()


def jpeg(picture_bgr: np.ndarray, width: int = 320, height: int = 240) -> bytes:
    return cv2.imencode(".jpg", cv2.resize(picture_bgr, (width, height)))[1].tobytes()


@pytest.fixture
def network_camera(astronaut: np.ndarray) -> Iterator[NetworkCamera]:
    """A camera that is on."""
    camera = NetworkCamera(jpeg(astronaut))
    camera.start()
    yield camera
    camera.stop()


@pytest.fixture
def cameras(astronaut: np.ndarray, network_camera: NetworkCamera) -> Iterator[list[NetworkCamera]]:
    """Two cameras that are on, of different sizes."""
    larger = NetworkCamera(jpeg(astronaut, 480, 360))
    larger.start()
    yield [network_camera, larger]
    larger.stop()
