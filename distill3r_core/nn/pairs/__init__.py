"""Blocks of networks that see two images at once (DUSt3R, MASt3R, and students of them)."""
