"""DUSt3R (arXiv:2312.14132) and MASt3R (arXiv:2406.09756): networks that see two images at once."""
