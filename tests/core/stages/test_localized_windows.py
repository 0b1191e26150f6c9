"""`localization` of students that learned no scene: exact maps give the camera, others by hand."""

import json
import shutil

import pytest
import torch
from scored_room import FRAMES, HELD_OUT, save_run, score

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.sample_sources import read_at
from distill3r_core.data.loading.world_points import points_in_world, world_from_anchor
from distill3r_core.geometry.similarity import apply_similarity, invert_similarity
from distill3r_core.models.multiview.student import MultiviewStudent
from distill3r_core.runs.run_record import samples_of
from distill3r_core.types import PointMaps

RUN = ("runs/tiny-001",)


class ExactMaps:
    """Knows every view of the room by its image, and says exactly where its points are.

    Args:
        change: Makes another prediction of the exact points of a pass, in the anchor's frame.
    """

    def __init__(self, cache, change=lambda points: points):
        self.change, self.passes = change, []
        images, points, poses = [], [], []
        for name in cache.names():
            found, targets = read_at(cache, name, size=None)
            images.append(found.float() / 255)
            world = world_from_anchor(cache, name)
            assert world is not None, "the room has poses"
            points.append(points_in_world(targets, world))
            poses += cache.detail(name)["poses"]
        self.images, self.points = torch.cat(images), torch.cat(points)
        self.poses = torch.tensor(poses, dtype=torch.float64).reshape(-1, 4, 4)

    def __call__(self, images, **options):
        differences = (images[0][:, None] - self.images[None]).abs().mean((2, 3, 4))
        assert differences.min(1).values.max() < 2 / 255  # each is one of the room
        views = differences.argmin(1)
        self.passes.append(images[0])
        back = invert_similarity(self.poses[views[0], :3])
        points = self.change(apply_similarity(back, self.points[views])).float()[None]
        return PointMaps(points, None, torch.ones(points.shape[:-1]), None)


def moved(points, index, offset):
    changed = points.clone()
    changed[index] += torch.tensor(offset, dtype=points.dtype)
    return changed


def own_scaled(points):
    changed = points.clone()
    changed[0] *= 1.05
    return changed


def noisy(points):
    drawn = torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
    return points + 0.02 * drawn.double()


CHANGES = {
    "exact": (lambda points: points, 0.0, 0.2),
    "another unit": (lambda points: 3.7 * points, 0.0, 0.2),
    "a training frame a meter off": (lambda points: moved(points, 2, [1, 0, 0]), 0.0, 0.2),
    "the view's own depth 5 % off": (own_scaled, 0.0, 0.2),  # PnP looks along rays
    "2 cm of noise": (noisy, 0.0, 2.0),
    "the view 10 cm aside": (lambda points: moved(points, 0, [0.1, 0, 0]), 10.0, 0.2),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_held_out_view_is_where_its_maps_put_it_among_training_frames(
    here, tmp_path, monkeypatch, name
):
    change, centimeters, bar = CHANGES[name]
    exact = ExactMaps(CacheUnion.open([here / "caches/teacher"]), change)
    monkeypatch.setattr(MultiviewStudent, "forward", lambda self, *args, **keys: exact(*args))
    report = score(models=RUN, protocol="localization", output=tmp_path / "out")
    figures = report.result["metrics"]
    assert report.result["views"] == HELD_OUT
    assert figures["location_median"] == pytest.approx(centimeters, abs=bar)
    assert figures["location_rotation_median"] < (1 if name == "2 cm of noise" else 0.1)
    assert figures["location_near"] == (1 if centimeters < 5 else 0)
    if name == "exact":
        # Placed in the scene, not by each other: nothing is refined, and nothing says it is.
        assert report.result["without_refinement"] == {}
        assert not any("refined" in note for note in report.notes)
        assert figures["coordinate_mse_metric"] < 1e-6
        assert figures["coordinate_mse"] is None  # a radius is that of a student of scenes
        assert report.result["baselines"]["nearest_frame"]["location_median"] > 1
        # Every training frame stands in a pass once, though windows share frames.
        assert [len(images) for images in exact.passes] == [1 + FRAMES - HELD_OUT] * HELD_OUT
        distances = torch.pdist(exact.passes[0].flatten(1))
        assert distances.min() > 0


@pytest.mark.parametrize(
    ("preset", "resized"), [("tiny", None), ("tiny", (14, 28)), ("pair-tiny", (16, 32))]
)
def test_students_of_several_views_have_figures_at_any_size(here, tmp_path, preset, resized):
    run = tmp_path / "run"
    save_run(run, here / "caches/teacher", preset=preset, resized=resized)
    report = score(models=(str(run),), protocol="localization", output=tmp_path / "out")
    figures = report.result["metrics"]
    assert figures["coordinate_mse_metric"] > 0 and 0 <= figures["location_near"] <= 1
    # The worst views are those furthest from where they are, and say how far.
    worst = report.result["worst_views"]
    distances = [float(view.split("location ")[1].split(",")[0]) for view in worst]
    assert distances == sorted(distances, reverse=True) and distances[0] > 0
    assert not [note for note in report.notes if "no place in the scene" in note]


def test_a_world_without_training_frames_gives_no_figures(here, tmp_path):
    shutil.copytree(here / "rooms", tmp_path / "elsewhere")
    data = tmp_path / "elsewhere"
    found = score(models=RUN, protocol="localization", data=data, output=tmp_path / "out")
    assert found.result["views"] == HELD_OUT  # training frames are known by their images
    assert found.result["metrics"]["location_near"] is None
    assert any(note.startswith("no location") for note in found.notes)


def test_without_its_cache_a_student_has_no_place(here, tmp_path):
    run = tmp_path / "run"
    save_run(run, here / "caches/teacher")
    shutil.copytree(here / "rooms", tmp_path / "rooms")
    hidden = here / "caches/hidden"
    (here / "caches/teacher").rename(hidden)
    try:
        found = score(
            models=(str(run),), protocol="localization", data="rooms", output=tmp_path / "out"
        )
    finally:
        hidden.rename(here / "caches/teacher")
    assert found.result["metrics"]["location_near"] is None
    assert any("the cache of its training frames cannot be read" in n for n in found.notes)
    # Once the cache is there, the same command has figures.
    there = score(
        models=(str(run),), protocol="localization", data="rooms", output=tmp_path / "out",
        overwrite=True,
    )  # fmt: skip
    assert not there.finished_before and there.result["metrics"]["location_near"] is not None


def test_views_are_not_placed_among_frames_of_another_cache(here, tmp_path):
    run, cache = tmp_path / "run", here / "caches/teacher"
    save_run(run, cache)
    own = samples_of(TeacherCache(cache))
    record = {"finished": True, "identity": {"cache": {**own, "samples": "another"}}}
    (run / "run.json").write_text(json.dumps(record))
    found = score(
        models=(str(run),), protocol="localization", data=here / "rooms", output=tmp_path / "out"
    )
    assert found.result["metrics"]["location_near"] is None
    (note,) = (note for note in found.notes if "no place in the scene" in note)
    assert f"the run learned from other samples than {cache} holds" in note
