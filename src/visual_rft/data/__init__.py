"""Sources of labelled images, and the questions asked about them."""
