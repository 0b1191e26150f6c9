"""`bench ablation --study poses`: what limits the poses of students, measured."""

from distill3r_core.benchmarks.poses.pose_study import PoseStudySettings, bench_poses

__all__ = ["PoseStudySettings", "bench_poses"]
