"""The paper's experiments in miniature: base, supervised and reinforcement fine-tuning on the same data and budget."""
