"""The one table of file name suffixes."""

from __future__ import annotations

PICTURES = frozenset((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
# Text that lies in a folder of pictures is no picture of it.
TEXTS = frozenset((".csv", ".json", ".jsonl", ".log", ".ndjson", ".tsv", ".txt"))
# OpenCV's codec of each video container that is written.
VIDEO_CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
