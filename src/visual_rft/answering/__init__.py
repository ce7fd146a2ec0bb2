"""A model asked: about held-out questions, and about pictures that nobody has labelled."""
