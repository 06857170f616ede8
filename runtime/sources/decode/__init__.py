"""Reading picture files: headers are checked before a native decoder sees the content."""
