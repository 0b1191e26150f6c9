"""Any data set with depth gives exact targets: `manifest`, then `cache --teacher depth`."""

import numpy as np
import pytest
import torch
from depth_trees import DEPTH_TREES
from published_trees import write_co3d

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.layouts import LAYOUTS
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import InputMissingError
from distill3r_core.stages.cache import CacheSettings, build_cache
from distill3r_core.stages.manifest import ManifestSettings, build_manifest
from distill3r_core.teachers.choice import TeacherChoice


def test_every_layout_that_carries_depth_has_a_tree() -> None:
    assert {name for name in LAYOUTS if "depth" in LAYOUTS[name].carries} == DEPTH_TREES.keys()


@pytest.mark.parametrize("layout", sorted(DEPTH_TREES))
def test_a_layout_with_depth_gives_exact_targets(tmp_path, out, layout) -> None:
    write, depths = DEPTH_TREES[layout]
    write(tmp_path / "tree")
    root = tmp_path / "tree"
    root = root / "data.yaml" if LAYOUTS[layout].takes_file else root
    settings = ManifestSettings((root,), out, val_scenes=0.0, video_fps=100.0)
    report = build_manifest(settings, trust=True)  # depth and poses are made up, each by itself
    assert [found["layout"] for found in report.result["datasets"]] == [layout]
    made = build_cache(
        CacheSettings(
            manifest=out / "manifest.csv",
            output=tmp_path / "cache",
            teacher=TeacherChoice("depth"),
            size="28x42",
        )
    )
    assert not made.failed
    samples = {sample.name: sample.rows for sample in read_manifest(out / "manifest.csv").samples()}
    cache = TeacherCache(tmp_path / "cache")
    assert len(samples) == len(depths) and set(cache.names()) == samples.keys()
    for (name, rows), depth in zip(sorted(samples.items()), depths, strict=True):
        targets = cache.read(name).targets
        valid = targets.valid_mask
        assert valid.flatten(1).any(1).all()
        z = targets.points_local[..., 2][valid]
        torch.testing.assert_close(z, torch.full_like(z, depth), rtol=0.01, atol=0)
        assert (targets.local_only is not None) == ("pose" not in LAYOUTS[layout].carries)
        if targets.local_only is None:  # each view stands where its pose says, seen from the first
            world = [np.array(row.pose).reshape(4, 4) for row in rows]
            moved = np.stack([np.linalg.inv(world[0]) @ pose for pose in world])[:, :3]
            moved[..., 3] *= 1e-3 if rows[0].unit == "mm" else 1.0
            np.testing.assert_allclose(targets.global_from_local, moved, atol=1e-4)


def test_scenes_without_depth_among_others_are_counted_and_named(tmp_path, out) -> None:
    root = write_co3d(tmp_path / "co3d")  # one of three sequences has no annotations
    build_manifest(ManifestSettings((root,), out, val_scenes=0.0), trust=True)
    settings = CacheSettings(
        manifest=out / "manifest.csv", output=tmp_path / "cache", teacher=TeacherChoice("depth")
    )
    with pytest.raises(InputMissingError) as refused:
        build_cache(settings)
    hint = refused.value.hint
    assert hint and "1 of 3 scenes" in hint and "(first: co3d/skateboard/1_1_1)" in hint
    assert not (tmp_path / "cache").exists()
