"""`bench cache`: the teacher cache beside the original project's format."""

from distill3r_core.benchmarks.cache.cache_benchmark import BenchCacheSettings, bench_cache

__all__ = ["BenchCacheSettings", "bench_cache"]
