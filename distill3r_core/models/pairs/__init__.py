"""Students that see two views at once (arXiv:2607.01851)."""
