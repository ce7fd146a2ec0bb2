"""What is compared: every experiment as plain values, without code of its own."""
