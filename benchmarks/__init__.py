"""How fast and how right: the scripts behind every number in the README."""
