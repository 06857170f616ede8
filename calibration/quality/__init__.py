"""Quality of quantized graphs: agreement, accuracy, sensitivity and the gate."""
