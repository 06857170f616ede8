"""TensorRT-RTX's compiled kernels, cached on disk from one run to the next."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from feredge.runtime.environment import cache_folder
from feredge.runtime.errors import OutputError
from feredge.runtime.files import atomic_write
from feredge.runtime.gpu.device import Gpu
from feredge.runtime.spec import TargetSpec


class RtxCache:
    """The kernels of one plan on one kind of GPU: RTX compiles them when it loads the plan."""

    def __init__(self, target: TargetSpec, gpu: Gpu) -> None:
        capability = "sm_{}{}".format(*gpu.compute_capability)
        parts = (target.kind, str(target.version), re.sub(r"\W+", "-", gpu.name), capability,
                 (target.onnx_sha256 or "unknown")[:16])
        self.path = cache_folder() / "kernels" / f"{'_'.join(parts)}.cache"
        self.cache: Any = None

    def config(self, engine: Any, trt: Any) -> Any:
        """Return the configuration of a context: the cached kernels, and graphs of RTX's own."""
        config = engine.create_runtime_config()
        if self.cache is None:
            self.cache = config.create_runtime_cache()
            with suppress(OSError):
                self.cache.deserialize(self.path.read_bytes())
        config.set_runtime_cache(self.cache)
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return config

    def save(self) -> None:
        """Write the kernels to disk; without effect where the folder is read-only."""
        if self.cache is None:
            return
        with suppress(OSError, OutputError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as temporary:
                temporary.write_bytes(bytes(memoryview(self.cache.serialize())))
        self.cache = None
