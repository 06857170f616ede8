"""TensorRT plans: builder, versions, sidecars and INT8 coverage."""
