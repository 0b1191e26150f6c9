"""`bench ablation --study pairs`: what the parts of arXiv:2607.01851 are worth, measured."""

from distill3r_core.benchmarks.pairs.pair_study import PairStudySettings, bench_pairs

__all__ = ["PairStudySettings", "bench_pairs"]
