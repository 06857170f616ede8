"""INT8 export: quantized graphs, and the gate that they have to pass."""
