"""`bench ablation`: does the teacher's confidence help?"""

from distill3r_core.stages.bench.ablation.run import AblationSettings, bench_ablation

__all__ = ["AblationSettings", "bench_ablation"]
