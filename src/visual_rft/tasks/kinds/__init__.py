"""A task each, on one page: prompt, gold answer, parse, comparison, rewards, metrics and wrong answers."""
