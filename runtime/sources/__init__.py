"""Sources: pictures, folders, videos, streams and cameras."""
