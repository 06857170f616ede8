"""The GPU: context, buffers, CUDA graphs, and the kernels compiled for it."""
