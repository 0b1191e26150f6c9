"""Conventions of RGB-D data: how it is to be read, and whether its parts fit together."""
