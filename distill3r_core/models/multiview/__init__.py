"""The family of Distill3R (arXiv:2602.00865): all views of a sample in one transformer."""
