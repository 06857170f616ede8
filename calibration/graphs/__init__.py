"""Quantized graphs: Q/DQ placement, rewriting and weight rounding."""
