"""Advantages, the objective and the loops."""
