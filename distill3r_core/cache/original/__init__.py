"""The cache format of the original project, read and written."""
