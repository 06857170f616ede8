"""The networks, and the registry that they enter when they are imported."""
