"""The live page and the metrics that Prometheus reads."""
