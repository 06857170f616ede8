"""INT8: activation ranges from real faces, and where quantisation goes."""
