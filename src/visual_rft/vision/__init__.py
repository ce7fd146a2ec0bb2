"""Boxes, coordinate spaces, images and drawing. This room never imports torch."""
