"""``python -m visual_rft``: the same as the installed command ``visual-rft``."""

from visual_rft.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
