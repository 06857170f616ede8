"""Reads the API of TensorRT's binding wheels, whose libraries are not needed for that."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path

from emulated_cuda import MissingTool, cache, run

WHEELS = {  # version to package: 1.2 MB each, without TensorRT's libraries
    "10.3.0": "tensorrt-cu12-bindings", "10.13.3.9": "tensorrt-cu13-bindings",
    "10.16.1.11": "tensorrt-cu13-bindings", "11.4.0.106": "tensorrt-cu13-bindings",
}
STUB_NAMES = re.compile(r"create\w+_INTERNAL|get\w+(Registry|Version)|init\w+")


def bindings_api(version: str) -> dict[str, list[str]]:
    """Return the public names of every class of a version's bindings, read in another process.

    Raises:
        MissingTool: the wheel cannot be fetched for this Python.
    """
    file = cache() / f"tensorrt-api-{version}-{sys.version_info.minor}.json"
    if not file.is_file():
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            library = fetch(version, Path(folder))
            file.write_text(run(sys.executable, __file__, library))
    return json.loads(file.read_text())


def fetch(version: str, folder: Path) -> Path:
    """Download a wheel and return its library."""
    wheel = f"{WHEELS[version]}=={version}"
    try:
        run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download",
            "--no-deps", "--only-binary=:all:", "--dest", folder, wheel)
    except RuntimeError as error:
        raise MissingTool(f"{wheel} cannot be fetched: {error}") from error
    (archive,) = folder.glob("*.whl")
    with zipfile.ZipFile(archive) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith("/tensorrt.so"))
        return Path(opened.extract(name, folder))


def load(library: Path, folder: Path) -> object:
    """Load the bindings on empty libraries of the names that they link to."""
    needed = re.findall(r"\[(libnv\S+)\]", run("readelf", "-d", library))
    undefined = {line.split()[-1] for line in run("nm", "-D", "-u", library).splitlines()}
    stubs = "".join(f"void* {name}() {{ return 0; }}\n" for name in sorted(undefined)
                    if STUB_NAMES.fullmatch(name))
    (folder / "stubs.c").write_text(stubs)
    for name in needed:
        run("gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name,
            folder / "stubs.c")
        ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL)
    spec = importlib.util.spec_from_file_location("tensorrt", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_names(module: object) -> dict[str, list[str]]:
    """Return the public names of every class of a module."""
    kinds = {name: kind for name in dir(module) if isinstance(kind := getattr(module, name), type)}
    return {name: sorted(member for member in dir(kind) if not member.startswith("_"))
            for name, kind in kinds.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sys.stdout.write(json.dumps(public_names(load(Path(sys.argv[1]), Path(name)))))
        sys.stdout.flush()
        os._exit(0)  # the stubs are no TensorRT: nothing of it may be torn down
