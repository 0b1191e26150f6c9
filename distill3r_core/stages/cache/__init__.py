"""Stage `cache`: store a teacher's targets of every sample; inspect, verify, merge, exchange."""

from distill3r_core.stages.cache.build_stage import CacheSettings, build_cache

__all__ = ["CacheSettings", "build_cache"]
