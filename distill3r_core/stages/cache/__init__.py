"""Stage `cache`: a teacher"s answers for every sample, stored; and what is done with the store."""

from distill3r_core.stages.cache.build_stage import CacheSettings, build_cache

__all__ = ["CacheSettings", "build_cache"]
