"""Stage `bench`: time and memory of models by number of views."""

from distill3r_core.stages.benchmark.run_benchmark import benchmark
from distill3r_core.stages.benchmark.settings import BenchSettings

__all__ = ["BenchSettings", "benchmark"]
