import hashlib
import http.server
import threading

import pytest

from feredge.runtime.detect import weights as detector_weights
from feredge.runtime.detect.weights import detector_path as chosen_path
from feredge.runtime.detect.weights import download
from feredge.runtime.errors import EngineError


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that hands out one folder."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_yunet_is_downloaded_once_and_checked(server, tmp_path, monkeypatch, capsys):
    folder, address = server
    content = b"weights" * 1000
    (folder / "face.onnx").write_bytes(content)
    monkeypatch.setattr(detector_weights, "URL", f"{address}/face.onnx")
    monkeypatch.setattr(detector_weights, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = chosen_path("yunet")
    assert path.read_bytes() == content and path.is_relative_to(tmp_path / "cache")
    assert "downloading" in capsys.readouterr().err
    path.write_bytes(b"tampered")
    assert chosen_path("yunet") == path and path.read_bytes() == content
    (folder / "face.onnx").unlink()
    assert chosen_path("yunet") == path
    assert [file.name for file in path.parent.iterdir()] == ["face.onnx"]


def test_yunet_is_the_file_that_the_hash_names(yunet_path):
    content = yunet_path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == detector_weights.SHA256
    assert len(content) == detector_weights.SIZE_BYTES
    assert detector_weights.URL.endswith("/" + yunet_path.name)


def test_another_file_under_the_address_is_refused_and_not_kept(server, tmp_path):
    folder, address = server
    (folder / "face.onnx").write_bytes(b"something else")
    with pytest.raises(EngineError, match="SHA-256"):
        download(f"{address}/face.onnx", tmp_path / "cache" / "face.onnx")
    assert not (tmp_path / "cache").exists()


def test_no_network_names_the_address_and_the_argument(server, tmp_path):
    _, address = server
    with pytest.raises(EngineError, match=r"could not be downloaded.*missing\.onnx.*`detector`"):
        download(f"{address}/missing.onnx", tmp_path / "face.onnx")


def test_the_bundled_detector_is_the_default(tmp_path):
    assert chosen_path() == detector_weights.BUNDLED
    other = tmp_path / "other.onnx"
    other.write_bytes(b"y")
    assert chosen_path(other) == other
    with pytest.raises(EngineError, match="does not exist"):
        chosen_path(tmp_path / "missing.onnx")
