"""Attention over keys that are kept apart: of prompts, of their completions, token by token."""
