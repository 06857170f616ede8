"""The generated tables of the README files: each function makes one section from the results."""
