"""A model that is a Git LFS pointer or a web page is named as such."""

import pytest

from feredge.runtime import open_engine
from feredge.runtime.detect import open_detector
from feredge.runtime.errors import EngineError


@pytest.mark.parametrize("content, said", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "run git lfs pull"),
    (b"\xef\xbb\xbf\n <!DOCTYPE html><html>Quota exceeded", "is a web page"),
], ids=["LFS", "HTML"])
def test_a_placeholder_of_a_model_is_named(tmp_path, content, said):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=said):
        open_engine(path)
    with pytest.raises(EngineError, match=said):
        open_detector(str(path))
