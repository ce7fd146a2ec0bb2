"""Who samples a step's completions: the policy itself, or a server that is given its weights."""
