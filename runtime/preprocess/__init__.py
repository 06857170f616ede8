"""The crop: a numpy reference, and the fast paths that are tested against it."""
