"""What fits into the memory of a device, and what is done where it does not."""
