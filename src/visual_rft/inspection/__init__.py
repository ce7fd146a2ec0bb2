"""A run looked at before it costs anything."""
