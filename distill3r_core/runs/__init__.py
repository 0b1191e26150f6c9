"""Runs on the disk: what their folders hold, and the students in them."""
