"""Tracking over time: tracks, smoothing, and reuse of predictions."""
