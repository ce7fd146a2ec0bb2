"""Measuring a policy on held-out images."""
