"""What a person reads while something goes on: how far it is, and times and sizes in words."""
