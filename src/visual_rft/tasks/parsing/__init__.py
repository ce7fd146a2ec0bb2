"""Text to answer, or the reason why there is none."""
