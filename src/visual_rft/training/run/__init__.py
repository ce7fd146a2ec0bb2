"""The run as a thing on disk and on screen: its folder, lock, checkpoints, console and trackers."""
