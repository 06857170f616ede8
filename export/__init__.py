"""From a trained checkpoint to what an edge device runs."""
