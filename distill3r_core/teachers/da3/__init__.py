"""Depth Anything 3 (arXiv:2511.10647), small, base and large."""
