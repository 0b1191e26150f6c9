"""`bench ablation`: Table III of the paper, reproduced on rendered rooms."""

from distill3r_core.benchmarks.ablation.study import AblationSettings, bench_ablation

__all__ = ["AblationSettings", "bench_ablation"]
