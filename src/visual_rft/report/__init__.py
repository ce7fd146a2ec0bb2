"""A run folder made visible: read it, draw it, serve it. Nothing here imports torch."""
