"""Few-shot classification of images."""
