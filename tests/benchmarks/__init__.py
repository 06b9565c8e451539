"""Measurements: how fast the operators are, how they grow, and how fast the local Hub is."""
