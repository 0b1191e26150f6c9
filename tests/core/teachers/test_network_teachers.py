"""Teachers around official weight files: what they predict, and what files they refuse."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from official_folders import STEMS, official_tensors, write_folder, write_pickle
from safetensors.torch import save_file

from distill3r_core.errors import GeometryError, RequestError, WeightsError
from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.teachers.registry import TEACHERS, build_teacher
from distill3r_core.teachers.targets import make_targets
from distill3r_core.types import View


@pytest.fixture(scope="module")
def folders(tmp_path_factory, golden_dir):
    root = tmp_path_factory.mktemp("weights")
    return {name: write_folder(root / name, golden_dir, name) for name in STEMS}


def views(count, size=(48, 64), *, known=False) -> list[View]:
    """Images of noise under smooth light; their cameras too, where `known`."""
    random = np.random.default_rng(0)
    found = []
    for index in range(count):
        pixels = random.integers(0, 255, (*size, 3), dtype=np.uint8)
        pose = np.eye(4)
        pose[:3, 3] = random.normal(size=3)
        k = np.array([[60.0, 0, size[1] / 2], [0, 60.0, size[0] / 2], [0, 0, 1]])
        found.append(
            View(
                image=pixels,
                intrinsics=k if known else None,
                world_from_cam=pose if known else None,
                sample="noise",
                index=index,
            )
        )
    return found


def small(teacher):
    """The teacher with a smaller input than the published one, so that tests are quick."""
    fit = teacher.fit
    if fit.long_edge is not None:
        teacher.fit = replace(fit, long_edge=8 * fit.multiple)
    elif fit.width is not None:
        teacher.fit = replace(fit, width=8 * fit.multiple, tallest=8 * fit.multiple)
    else:
        teacher.fit = replace(fit, area=64 * fit.multiple**2)
    return teacher


def predict(teacher, given):
    return teacher.predict([teacher.prepare(view) for view in given])


@pytest.mark.parametrize("name", sorted(STEMS))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_maps_of_every_view_at_its_prepared_size(folders, name, count):
    settings = {"align_steps": 5} if TEACHERS[name].needs.pairs else {}
    teacher = small(build_teacher(name, folders[name], **settings))
    prepared = [teacher.prepare(view) for view in views(count)]
    raw = teacher.predict(prepared)
    for view, points, confidence in zip(
        prepared, raw.points_local, raw.confidence_local, strict=True
    ):
        assert points.shape == (*view.image.shape[1:], 3)
        assert points.dtype == torch.float32
        assert points.isfinite().all()
        assert (confidence >= 1).all()
    assert raw.global_from_local is not None
    torch.testing.assert_close(raw.global_from_local[0], torch.eye(4)[:3], atol=1e-5, rtol=0)
    rotation = raw.global_from_local[:, :, :3].double()
    torch.testing.assert_close(
        rotation @ rotation.mT, torch.eye(3).double().expand_as(rotation), atol=1e-5, rtol=0
    )
    if raw.intrinsics is not None:
        for points, k in zip(raw.points_local, raw.intrinsics, strict=True):
            torch.testing.assert_close(points, unproject(points[..., 2], k), rtol=1e-4, atol=1e-4)
    targets = make_targets(raw, size=(28, 42), threshold=teacher.threshold).targets
    assert targets.points_local.shape == (count, 28, 42, 3)


@pytest.mark.parametrize("name", ["da3-small", "vggt", "pi3"])
def test_views_of_several_sizes_are_cropped_to_what_all_show(folders, name):
    teacher = small(build_teacher(name, folders[name]))
    landscape, portrait = views(1)[0], views(1, (64, 48))[0]
    raw = predict(teacher, [landscape, portrait])
    assert raw.valid_mask is not None
    shared = [int(mask.sum()) for mask in raw.valid_mask]
    assert shared[0] == shared[1] < max(mask.numel() for mask in raw.valid_mask)


def test_vggt_gives_its_own_point_map_where_asked(folders):
    teacher = small(build_teacher("vggt", folders["vggt"], point_map="own"))
    raw = predict(teacher, views(2))
    assert raw.points_global is not None
    assert raw.global_from_local is None  # to be fitted to the map
    plain = predict(small(build_teacher("vggt", folders["vggt"])), views(2))
    moved = apply_similarity(plain.global_from_local[1], plain.points_local[1])
    assert not torch.allclose(moved, raw.points_global[1], rtol=0.05)


def test_da3_takes_given_cameras_and_their_unit(folders):
    teacher = small(build_teacher("da3-small", folders["da3-small"], cameras="given"))
    known = views(4, known=True)
    raw = predict(teacher, known)
    for index in range(4):
        offset = known[index].world_from_cam[:3, 3] - known[0].world_from_cam[:3, 3]
        np.testing.assert_allclose(raw.global_from_local[index, :, 3], offset, atol=1e-5)
    with pytest.raises(RequestError, match="without a pose"):
        predict(teacher, views(3))
    with pytest.raises(GeometryError, match="do not determine the scale"):
        predict(teacher, known[:2])
    for view in known:
        view.world_from_cam[:3, 3] *= 1000
    same = predict(teacher, [replace(view, unit="mm") for view in known])
    torch.testing.assert_close(same.global_from_local, raw.global_from_local)
    for ours, theirs in zip(same.points_local, raw.points_local, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_pickled_checkpoint_and_a_hub_folder_are_the_same_network(folders, golden_dir, tmp_path):
    file = write_pickle(tmp_path / "MASt3R.pth", golden_dir, "mast3r")
    one, other = (
        predict(small(build_teacher("mast3r", weights)), views(2))
        for weights in (file, folders["mast3r"])
    )
    for ours, theirs in zip(one.points_local, other.points_local, strict=True):
        assert torch.equal(ours, theirs)


def test_a_prediction_can_be_stopped_between_its_steps(folders):
    class StoppedError(Exception):
        pass

    def stop(phase, done, total):
        if phase == "alignment" and done == 2:
            raise StoppedError

    teacher = small(build_teacher("mast3r", folders["mast3r"]))
    prepared = [teacher.prepare(view) for view in views(3)]
    with pytest.raises(StoppedError):
        teacher.predict(prepared, on_progress=stop)
    quick = small(build_teacher("mast3r", folders["mast3r"], align_steps=0))
    assert torch.equal(
        quick.predict(prepared).points_local[0], quick.predict(prepared).points_local[0]
    )


@pytest.mark.parametrize("name", sorted(STEMS))
def test_a_missing_or_unknown_tensor_is_named(golden_dir, tmp_path, name):
    write_folder(tmp_path, golden_dir, name)
    tensors = official_tensors(golden_dir, name)
    victim = sorted(key for key in tensors if key.endswith("mlp.fc1.weight"))[-1]
    save_file(
        {key: value.contiguous() for key, value in tensors.items() if key != victim},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(WeightsError, match=r"missing: .*mlp\.fc1\.weight"):
        build_teacher(name, tmp_path)
    save_file(
        {key: value.contiguous() for key, value in tensors.items()} | {"stranger": torch.ones(1)},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(WeightsError, match="unknown: stranger"):
        build_teacher(name, tmp_path)


@pytest.mark.parametrize("name", sorted(STEMS))
def test_a_file_of_another_model_is_refused_by_name(folders, name):
    other = "pi3" if name == "vggt" else "vggt"
    with pytest.raises(WeightsError, match="is not a weight file of"):
        build_teacher(name, folders[other])


def test_a_file_that_is_cut_short_or_would_run_code_is_refused(folders, tmp_path):
    whole = (folders["da3-small"] / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        build_teacher("da3-small", tmp_path)

    class Hostile:
        def __reduce__(self):
            return print, ("executed",)

    file = tmp_path / "hostile.pth"
    torch.save({"model": {"weight": Hostile()}}, file)
    with pytest.raises(WeightsError, match="refused to read"):
        build_teacher("dust3r-512-dpt", file)


ALLOCATED = """
import sys
from torch.profiler import ProfilerActivity, profile
from distill3r_core import build_teacher
build_teacher(sys.argv[1], sys.argv[2])  # loads what torch needs for it
with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
    teacher = build_teacher(sys.argv[1], sys.argv[2])
taken = sum(max(0, event.self_cpu_memory_usage) for event in watched.events())
print(taken / sum(p.numel() * p.element_size() for p in teacher.network.network.parameters()))
"""


@pytest.mark.parametrize("name", ["vggt", "da3-small"])
def test_a_network_is_never_in_memory_twice(folders, name):
    # The fakes are too small for a difference in the size of a process: all bytes that tensors ask
    # for while loading, given back or not, are those of the weights once.
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATED, name, str(folders[name])],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    assert 0.9 < float(done.stdout.split()[-1]) < 1.3
