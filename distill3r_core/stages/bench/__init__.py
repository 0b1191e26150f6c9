"""Stage `bench`: time and memory, measured in processes of their own."""

from distill3r_core.stages.bench.run import BenchSettings, benchmark

__all__ = ["BenchSettings", "benchmark"]
