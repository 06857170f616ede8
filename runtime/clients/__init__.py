"""Engines that run on a server: the crop stays here, the network runs there."""
