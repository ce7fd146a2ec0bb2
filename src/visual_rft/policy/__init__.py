"""A vision-language model as a policy: load it, encode prompts once, sample, score and learn."""
