"""A model as files: whether they are whole, whether nothing is missing in them, whether a hub has them."""
