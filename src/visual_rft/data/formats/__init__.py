"""A module per format that is read or written, and what they share."""
