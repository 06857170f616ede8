"""The whole pipeline and other packages, each in its own environment, on the same pictures."""
