"""Stage `bench`: time and memory, measured in processes of their own."""

from distill3r_core.stages.benchmark.run_benchmark import benchmark
from distill3r_core.stages.benchmark.settings import BenchSettings

__all__ = ["BenchSettings", "benchmark"]
