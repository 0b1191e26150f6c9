"""Stage `bench`: time and memory, measured in processes of their own."""

from distill3r_core.stages.bench.run import benchmark
from distill3r_core.stages.bench.settings import BenchSettings

__all__ = ["BenchSettings", "benchmark"]
