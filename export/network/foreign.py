"""What a file is that was given in place of a checkpoint, by its first bytes."""

from __future__ import annotations

import re

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull in its "
                                  "repository"),
    (rb"\s*<(!doctype|html|\?xml|head)", "a web page, not the file itself: download it again"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd",
     "a compressed file: unpack it first"),
    (rb".{257}ustar", "a tar archive, the format of torch before 0.1.11, or files packed together: "
                      "unpack it, or save it again where you trust it: "
                      "torch.save(torch.load(PATH), 'weights.pth')"),
    (rb"\x89HDF", "an HDF5 file, as Keras writes: a PyTorch checkpoint is expected"),
    (rb"\x93NUMPY", "a numpy array: a PyTorch checkpoint is expected"),
    (rb"\x08.{1,3}(\x12.{1,20}|\x1a.{1,20}|:)", "probably an ONNX file: a PyTorch checkpoint is "
                                              "expected, a plan is built with --onnx"),
    (rb"ptrt|ftrt", "a TensorRT plan: a PyTorch checkpoint is expected"),
    (rb"GGUF|TFL3|.{4}TFL3", "a file of another framework: a PyTorch checkpoint is expected"),
)


def foreign_kind(content: bytes) -> str | None:
    """Return what a file is, and what to do; None if nothing is known about it."""
    head = content[:512]
    return next((kind for pattern, kind in SIGNATURES
                 if re.match(pattern, head, re.DOTALL | re.IGNORECASE)), None)
