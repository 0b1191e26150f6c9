"""`bench ablation --study scene`: what the parts of arXiv:2412.02039 are worth, measured."""

from distill3r_core.benchmarks.scenes.scene_study import SceneStudySettings, bench_scenes

__all__ = ["SceneStudySettings", "bench_scenes"]
