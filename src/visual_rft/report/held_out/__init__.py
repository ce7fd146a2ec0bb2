"""The answers to held-out questions, for looking: kinds of mistake, curves and a gallery that filters."""
