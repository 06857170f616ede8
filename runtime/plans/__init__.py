"""Plans: their files, their TensorRT, and the runner that engine and detector share."""
