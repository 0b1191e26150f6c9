"""`bench train`: the cost of a training step, beside the loop of the original project."""

from distill3r_core.benchmarks.training.step_benchmark import BenchTrainSettings, bench_train

__all__ = ["BenchTrainSettings", "bench_train"]
