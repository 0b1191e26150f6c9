"""Layouts of recordings that people make themselves, or get as a benchmark of such."""
