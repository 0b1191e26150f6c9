"""Benchmarks that need a second trainer, a second loader or the loops of the original project."""
