"""Accuracy evaluation behind fer-eval."""
