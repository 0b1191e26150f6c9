"""The cache of the original release, read and written."""
