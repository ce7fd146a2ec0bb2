"""The demonstrations on the embedded model: a config per task, and the table of before and after."""
