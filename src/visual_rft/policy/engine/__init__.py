"""How prompts are encoded once and their completions computed on them: two engines behind one interface."""
