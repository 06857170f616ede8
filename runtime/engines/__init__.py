"""Engines: one interface, one file per backend, chosen by the suffix of the file."""

from __future__ import annotations

from pathlib import Path

from feredge.runtime.engines.base import Engine
from feredge.runtime.errors import EngineError, UsageError

__all__ = ["Engine", "open_engine"]

SERVER_SCHEME = "triton://"
BUNDLED = Path(__file__).parents[1] / "weights" / "manet.int8.onnx"


def open_engine(
    path: str | Path | None = None, cuda_graphs: bool = True, threads: int | None = None,
    provider: str | None = None,
) -> Engine:
    """Open an exported network with the backend that its suffix names.

    Args:
        path: an ONNX file or a plan that `fer-export` wrote, or `triton://host:port/model` for a
            network on a server; None is the bundled network.
        cuda_graphs: replay what a frame launches on a GPU as one graph.
        threads: how many a call may use on the CPU; None: one a core. Several threads may call an
            engine on the CPU at once.
        provider: onnxruntime's execution provider for an ONNX file, by its name in
            `engines.providers.PROVIDERS`; None: the CPU.

    Raises:
        EngineError: the file is missing, damaged, of another kind, or needs what is not here.
        SpecError: its ModelSpec is missing or broken.
        UsageError: the provider is unknown, not available, or not for this kind of file.
    """
    if provider is not None and Path(BUNDLED if path is None else path).suffix != ".onnx":
        raise UsageError(f"`provider` is for ONNX files, engine {path} is none: leave it out")
    if str(path).startswith(SERVER_SCHEME):
        from feredge.runtime.clients.triton import TritonEngine

        return TritonEngine(str(path))
    path = find_file(path)
    if path.suffix == ".plan":
        from feredge.runtime.engines.tensorrt import TensorRTEngine

        return TensorRTEngine(path, cuda_graphs)
    if path.suffix != ".onnx":
        raise EngineError(f"engine {path}: expected an .onnx or .plan file, as fer-export writes "
                          "it")
    from feredge.runtime.engines.onnxruntime import OnnxEngine

    return OnnxEngine(path, threads, provider)


def find_file(path: str | Path | None) -> Path:
    """Return the file of an engine; None is the bundled network.

    Raises:
        EngineError: there is no such file.
    """
    if path is None and not BUNDLED.is_file():
        raise EngineError("this installation has no bundled network: pass `engine`, a file that "
                          "fer-export --model manet --int8 writes")
    path = BUNDLED if path is None else Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise EngineError(f"engine {path} {what}; export one with: fer-export --model manet --int8")
    return path
