"""The studies of `bench ablation`, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distill3r_core.benchmarks.ablation import AblationSettings, bench_ablation
from distill3r_core.benchmarks.pairs import PairStudySettings, bench_pairs
from distill3r_core.benchmarks.poses import PoseStudySettings, bench_poses
from distill3r_core.benchmarks.scenes import SceneStudySettings, bench_scenes
from distill3r_core.registry import Registry
from distill3r_core.report import Report


@dataclass(frozen=True)
class Study:
    """A comparison of small trainings.

    Args:
        settings: Type of its settings.
        section: Section of its settings in configurations.
        run: Runs it; takes the settings, `overwrite` and `progress`.
    """

    settings: type[Any]
    section: str
    run: Callable[..., Report]


STUDIES: Registry[Study] = Registry("study")
STUDIES.add("table3", Study(AblationSettings, "bench_ablation", bench_ablation))
STUDIES.add("pairs", Study(PairStudySettings, "bench_pairs", bench_pairs))
STUDIES.add("poses", Study(PoseStudySettings, "bench_poses", bench_poses))
STUDIES.add("scene", Study(SceneStudySettings, "bench_scene", bench_scenes))
