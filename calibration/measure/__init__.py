"""Activation ranges: measurement, methods, caches and imports."""
