"""Latency benchmarks behind fer-bench."""
