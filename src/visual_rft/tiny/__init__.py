"""The embedded model: a real Qwen3-VL of a few million parameters, and how it was made."""
