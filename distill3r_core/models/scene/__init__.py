"""The scene family (arXiv:2412.02039): one image in, coordinates in the frame of its scene out."""
