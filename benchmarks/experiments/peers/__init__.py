"""The whole pipeline beside other packages: each in a venv of its own, on the same pictures."""
