"""A model behind an HTTP server: asked, and told new weights. Light: no torch."""
