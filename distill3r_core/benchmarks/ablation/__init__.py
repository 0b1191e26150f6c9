"""`bench ablation`: does the teacher's confidence help?"""

from distill3r_core.benchmarks.ablation.study import AblationSettings, bench_ablation

__all__ = ["AblationSettings", "bench_ablation"]
