"""Encoders of students, one kind a module. Families name a kind in their specs.

The spec of a kind has `width`, `depth` and `heads` of its blocks, and gives what a family asks for:
`build()` (the network, with random weights, from images (n, 3, H, W) to patch tokens (n, P, D)),
`patch` (pixels along a patch), `extra_tokens` (tokens beside those of the patches) and `stem_width`
(channels of a convolutional stem, for the counts). The network has `entrance`, the layers that turn
pixels into tokens, and `prepare_lower_precision(dtype)`.
"""
