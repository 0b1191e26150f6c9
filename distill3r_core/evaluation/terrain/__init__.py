"""Metrics of ground: its depth, its slopes, and where one could land."""
