"""Scenes that are made, not read: deterministic by seed, with exact truth."""
