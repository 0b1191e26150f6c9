"""How near to the path that it was trained on does a scene student put new views?

    python docs/benchmarks/scene_path.py CACHE RUN [RUN ...]

Prints for each run, on the validation frames of its cache: the median distance from a camera to the
nearest training camera, of the cameras that the student's coordinates give by PnP, and of the true
ones.
"""

import sys
from pathlib import Path

import torch

from distill3r_core.cache.store import TeacherCache
from distill3r_core.evaluation.validation_samples import poses_of, read_validation
from distill3r_core.models import load_student
from distill3r_core.reconstruction.prediction.scene_pass import scene_raw_maps


def centers_of_training(cache: TeacherCache) -> torch.Tensor:
    """Centers of the training cameras, in meters."""
    found = []
    for name in cache.names("train"):
        detail = cache.detail(name)
        poses = poses_of(detail, range(len(detail["poses"])))
        assert poses is not None, f"{name}: no poses"
        found.append(poses[:, :3, 3])
    return torch.cat(found)


def main(folder: str, *runs: str) -> None:
    """Print the distances of each run."""
    cache = TeacherCache(Path(folder))
    training = centers_of_training(cache)
    for run in map(Path, runs):
        student = load_student(run / "checkpoints/last").eval()
        found, true = [], []
        for truth in read_validation(cache, size=None, trained_on=frozenset(), failed=[]):
            for view in range(len(truth.views)):
                with torch.inference_mode():
                    maps = student(truth.views[view].image[None, None], head="global", host=True)
                raw = scene_raw_maps(student, maps, truth.intrinsics[view : view + 1])
                assert raw.scene is not None and truth.world_poses is not None
                found.append(raw.scene.world_from_cam[0, :3, 3])
                true.append(truth.world_poses[view, :3, 3])
        for name, centers in (("found", found), ("true", true)):
            print(f"{run}: {name} {nearest(torch.stack(centers), training):.3f} m")


def nearest(centers: torch.Tensor, training: torch.Tensor) -> float:
    """Median over cameras of the distance to the nearest training camera."""
    return float(torch.cdist(centers.double(), training.double()).amin(-1).nanmedian())


if __name__ == "__main__":
    main(*sys.argv[1:])
