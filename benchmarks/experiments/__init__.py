"""The project's own measurements: not part of the installed package."""
