"""A page in the browser to ask models about pictures, side by side."""
