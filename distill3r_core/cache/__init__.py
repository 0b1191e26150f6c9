"""The teacher cache: what the teacher said, on disk."""
