"""The teacher cache: what the teacher said, on disk."""

from distill3r_core.cache.store import TeacherCache

__all__ = ["TeacherCache"]
