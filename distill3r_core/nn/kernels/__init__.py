"""Faster ways to compute what the blocks of this package say, chosen by device and precision."""
