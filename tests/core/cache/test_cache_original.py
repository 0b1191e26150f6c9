"""The original project's format: written, read, and refused where it is not what it claims."""

import json
import os
import pickle
import random
import resource
import shutil

import numpy as np
import pytest
import torch
from cache_material import a_header, fill, pictures, rgbd_manifest, smooth_targets

from distill3r_core.cache.export_record import EXPORT_RECORD
from distill3r_core.cache.maps.maps_layout import Kind
from distill3r_core.cache.original.original_format import (
    ARRAYS,
    VIEWS,
    OriginalSample,
    read_sample,
    unpack_masks,
    write_sample,
)
from distill3r_core.cache.sample_codec import SampleEncoder, float16_step
from distill3r_core.cache.store import CacheWriter, TeacherCache, unpacked
from distill3r_core.errors import (
    DamageError,
    DiskFullError,
    InputMissingError,
    NothingUsableError,
)
from distill3r_core.stages.cache import CacheSettings, build_cache
from distill3r_core.stages.cache.merge import stored_sample
from distill3r_core.stages.cache.original_exchange import (
    ImportSettings,
    export_original,
    from_original,
    import_original,
)
from distill3r_core.stages.cache.verify import VerifySettings, verify_cache


def recorded_exports(golden_dir) -> dict[str, OriginalSample]:
    facts = json.loads((golden_dir / "teacher_export.json").read_text())
    size = tuple(facts["target_HxW"])
    with np.load(golden_dir / "teacher_export.npz") as arrays:
        return {
            name: OriginalSample(
                **{
                    key: arrays[f"{name}/{key}"]
                    for key in ("xyz_local", "xyz_global", "conf_local", "conf_global")
                },
                masks=unpack_masks(np.array(sample["masks"], dtype=object), size),
                views=sample["sampled_views_json"],
            )
            for name, sample in facts["samples"].items()
        }


def test_the_derived_global_map_of_the_recorded_export_is_within_its_float16_step(golden_dir):
    for name, release in recorded_exports(golden_dir).items():
        targets = from_original(release)
        views = len(targets.points_local)
        images = pictures(views=views, size=tuple(targets.points_local.shape[1:3]))
        sample = SampleEncoder().encode(name, "", images, targets, {"pictures": [""] * views})
        assert sample.kind & ~Kind.SHARED == Kind(0), "twelve numbers should say it"
        again, mask = unpacked(sample), targets.valid_mask
        assert again.stored_points_global is None
        assert torch.equal(again.valid_mask, mask)
        assert torch.equal(again.points_local[mask], targets.points_local[mask])
        assert torch.equal(again.confidence_local[mask], targets.confidence_local[mask])
        truth = targets.stored_points_global
        error = (again.points_global - truth).abs().amax(-1)
        # The step of a point: of its largest coordinate, before or after it is carried.
        scale = torch.linalg.norm(targets.global_from_local[..., :3], ord=2, dim=(-2, -1))
        carried = targets.points_local.abs().amax(-1) * scale[:, None, None]
        step = float16_step(carried) + float16_step(truth.abs().amax(-1))
        assert (error[mask] <= step[mask]).all()


def test_the_exact_codec_gives_the_recorded_global_map_back_bit_for_bit(golden_dir):
    for name, release in recorded_exports(golden_dir).items():
        targets = from_original(release)
        views = len(targets.points_local)
        images = pictures(views=views, size=tuple(targets.points_local.shape[1:3]))
        sample = SampleEncoder(exact_global=True).encode(name, "", images, targets, {})
        again, mask = unpacked(sample), targets.valid_mask
        assert torch.equal(again.points_global[mask], targets.stored_points_global[mask])


def test_a_sample_survives_the_original_format(tmp_path):
    targets = smooth_targets()
    invalid = ~targets.valid_mask
    release = OriginalSample(
        xyz_local=targets.points_local.masked_fill(invalid[..., None], float("nan")).half().numpy(),
        xyz_global=targets.points_global.masked_fill(invalid[..., None], float("nan"))
        .half()
        .numpy(),
        conf_local=targets.confidence_local.masked_fill(invalid, 0).half().numpy(),
        conf_global=targets.confidence_global.masked_fill(invalid, 0).half().numpy(),
        masks=targets.valid_mask.numpy(),
        views={"sampled_image_paths": ["a.png", "b.png"]},
    )
    write_sample(tmp_path, release)
    again = read_sample(tmp_path)
    for name in ("xyz_local", "xyz_global", "conf_local", "conf_global", "masks"):
        np.testing.assert_array_equal(getattr(again, name), getattr(release, name))
    with np.load(tmp_path / ARRAYS, allow_pickle=True) as theirs:  # as the original reads it
        assert int(theirs["num_views"]) == 2
        assert theirs["xyz_local"].dtype == np.float16
        assert theirs["masks"].dtype == object


class Trap:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_a_pickle_that_would_run_something_is_refused_and_does_not_run(tmp_path, capsys):
    trap = np.empty(1, dtype=object)
    trap[0] = Trap()
    empty = np.zeros((1, 2, 2, 3), np.float16)
    np.savez(
        tmp_path / ARRAYS,
        xyz_local=empty,
        xyz_global=empty,
        conf_local=empty[..., 0],
        conf_global=empty[..., 0],
        masks=trap,
        num_views=1,
        inference_time=np.float32(0),
    )
    (tmp_path / "sampled_views.json").write_text("{}")
    with pytest.raises(DamageError, match="asks for"):
        read_sample(tmp_path)
    assert "must not run" not in capsys.readouterr().out
    assert pickle.loads(pickle.dumps(print)) is print  # it would have been possible


@pytest.mark.parametrize("cut", [0, 10, 0.5, -20])
def test_a_cut_archive_is_damage_and_no_crash(tmp_path, cut):
    targets = smooth_targets()
    half = targets.points_local.half().numpy()
    confidence = targets.confidence_local.half().numpy()
    write_sample(
        tmp_path,
        OriginalSample(half, half, confidence, confidence, targets.valid_mask.numpy(), {}),
    )
    data = (tmp_path / ARRAYS).read_bytes()
    (tmp_path / ARRAYS).write_bytes(data[: int(cut * len(data)) if 0 < cut < 1 else cut])
    with pytest.raises(DamageError, match="cannot be read"):
        read_sample(tmp_path)


def test_a_cache_goes_to_the_original_format_and_comes_back(tmp_path):
    manifest = rgbd_manifest(tmp_path / "data", scenes=2, samples=2, views=3, size=(60, 80))
    build_cache(CacheSettings(manifest=manifest, output=tmp_path / "ours", size="28x42"))
    export_original(tmp_path / "ours", tmp_path / "npz")
    folders = sorted(path.parent.name for path in (tmp_path / "npz").rglob(ARRAYS))
    assert folders == [f"scene{scene}_sample{k:02d}" for scene in range(2) for k in range(2)]
    views = json.loads((tmp_path / "npz/data/scene0_sample01/sampled_views.json").read_text())
    assert views["sampled_count"] == 3
    assert views["sample_id"] == 1
    assert views["total_samples"] == 2

    report = import_original(ImportSettings(tmp_path / "npz", tmp_path / "back"))
    assert report.result == {"planned": 4, "finished": 4}
    ours, back = TeacherCache(tmp_path / "ours"), TeacherCache(tmp_path / "back")
    assert back.names() == ours.names()
    for name in ours.names():
        one, other = ours.read(name), back.read(name)
        mask = one.targets.valid_mask
        assert torch.equal(mask, other.targets.valid_mask)
        assert one.image_hashes == other.image_hashes
        local = one.targets.points_local.half().float()
        assert torch.equal(other.targets.points_local[mask], local[mask])
        close = {"rtol": 2**-9, "atol": 2**-8}
        moved = (one.targets.points_global[mask], other.targets.points_global[mask])
        torch.testing.assert_close(*moved, **close)


def test_a_samples_number_does_not_depend_on_which_others_are_finished(tmp_path):
    header = a_header(4)
    fill(tmp_path / "whole", header)
    whole, half = TeacherCache(tmp_path / "whole"), tmp_path / "half"
    with CacheWriter(half, header) as writer:
        for name in whole.names()[2:]:
            writer.put(stored_sample(whole, name))
    export_original(half, tmp_path / "npz")
    folders = sorted(path.parent.name for path in (tmp_path / "npz").rglob(ARRAYS))
    assert folders == ["scene_sample02", "scene_sample03"]
    views = json.loads((tmp_path / "npz/data/scene_sample02/sampled_views.json").read_text())
    assert (views["sample_id"], views["total_samples"]) == (2, 4)
    export_original(tmp_path / "whole", tmp_path / "npz")
    export_original(tmp_path / "whole", tmp_path / "at once")
    for path in (tmp_path / "npz").rglob("*.npz"):
        other = tmp_path / "at once" / path.relative_to(tmp_path / "npz")
        with np.load(path, allow_pickle=True) as one, np.load(other, allow_pickle=True) as two:
            np.testing.assert_array_equal(one["xyz_local"], two["xyz_local"])


@pytest.mark.parametrize(("limit", "whole"), [(100, []), (5000, [EXPORT_RECORD, VIEWS])])
def test_an_export_to_a_full_disk_leaves_no_part_of_a_file(tmp_path, limit, whole):
    fill(tmp_path / "ours", a_header())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            with pytest.raises(DiskFullError, match="npz/"):
                export_original(tmp_path / "ours", tmp_path / "npz")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    left = [path.name for path in (tmp_path / "npz").rglob("*") if path.is_file()]
    assert left == whole
    assert export_original(tmp_path / "ours", tmp_path / "npz").result["written"] == 3


def test_an_import_from_a_folder_of_pictures_that_is_not_there_creates_nothing(tmp_path):
    fill(tmp_path / "ours", a_header())
    export_original(tmp_path / "ours", tmp_path / "npz")
    settings = ImportSettings(tmp_path / "npz", tmp_path / "back", images=tmp_path / "nowhere")
    with pytest.raises(InputMissingError, match="nowhere"):
        import_original(settings)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"conf_local": np.ones((28, 42), np.float16)},
        {"conf_local": np.ones((1, 28, 42), np.float16)},
        {"xyz_local": np.zeros((2, 28, 42, 2), np.float16)},
        {"xyz_global": np.zeros((2, 28, 42, 3), np.complex64)},
        {"masks": np.array(5, dtype=object)},
        {"masks": np.zeros((2, 28, 42), bool)},
        {"inference_time": np.zeros(3)},
        {"views": []},
        {"views": None},
        {"views": {"sampled_image_paths": 5}},
        {"views": {"sampled_image_paths": [1, 2]}},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_sample_that_is_not_what_it_should_be_is_left_out_and_named(tmp_path, change):
    manifest = rgbd_manifest(tmp_path / "data", scenes=2, samples=1)
    build_cache(CacheSettings(manifest=manifest, output=tmp_path / "ours", size="28x42"))
    export_original(tmp_path / "ours", tmp_path / "npz")
    folder = tmp_path / "npz/data/scene1"
    if "views" in change:
        (folder / VIEWS).write_text(json.dumps(change["views"]))
    else:
        with np.load(folder / ARRAYS, allow_pickle=True) as arrays:
            np.savez(folder / ARRAYS, **(dict(arrays) | change))
    report = import_original(ImportSettings(tmp_path / "npz", tmp_path / "back"))
    assert [failure.item for failure in report.failed] == ["data/scene1/000"]
    assert report.result["finished"] == 1


def test_a_flipped_bit_of_an_archive_is_damage_or_harmless_and_no_crash(tmp_path, drill):
    half = smooth_targets().points_local.half().numpy()
    confidence = np.ones(half.shape[:3], np.float16)
    mask = smooth_targets().valid_mask.numpy()
    write_sample(tmp_path, OriginalSample(half, half, confidence, confidence, mask, {}))
    good, rng = (tmp_path / ARRAYS).read_bytes(), random.Random(0)
    noticed = 0
    for number in range(drill(2000)):
        broken = bytearray(good)
        near = rng.choice([rng.randrange(200), len(good) - 1 - rng.randrange(900)])
        place = near if number % 2 else rng.randrange(len(good))
        broken[place] ^= 1 << rng.randrange(8)
        (tmp_path / ARRAYS).write_bytes(broken)
        try:
            again = read_sample(tmp_path)
        except DamageError:
            noticed += 1
        else:
            np.testing.assert_array_equal(again.xyz_local, half)
    assert noticed > drill(2000) / 2


def test_two_folders_of_one_sample_are_not_taken_for_one(tmp_path):
    manifest = rgbd_manifest(tmp_path / "data", scenes=1, samples=2)
    build_cache(CacheSettings(manifest=manifest, output=tmp_path / "ours", size="28x42"))
    export_original(tmp_path / "ours", tmp_path / "npz")
    shutil.copytree(tmp_path / "npz/data/scene0_sample01", tmp_path / "npz/data/scene0_sample1")
    report = import_original(ImportSettings(tmp_path / "npz", tmp_path / "back"))
    (failure,) = report.failed
    assert failure.item.endswith("scene0_sample1")
    assert "scene0_sample01" in failure.reason
    assert report.result == {"planned": 2, "finished": 2}


def test_imported_samples_are_not_held_against_a_manifest_that_has_their_names(tmp_path):
    manifest = rgbd_manifest(tmp_path / "data", scenes=1, samples=2)
    build_cache(CacheSettings(manifest=manifest, output=tmp_path / "ours", size="28x42"))
    export_original(tmp_path / "ours", tmp_path / "npz")
    import_original(ImportSettings(tmp_path / "npz", tmp_path / "back"))
    assert TeacherCache(tmp_path / "back").names() == TeacherCache(tmp_path / "ours").names()
    found = verify_cache(VerifySettings(tmp_path / "back", manifest=manifest))
    assert (found.result["ok"], found.result["changed"]) == (True, [])


def test_an_import_without_its_pictures_says_where_to_name_them(tmp_path):
    fill(tmp_path / "ours", a_header())
    export_original(tmp_path / "ours", tmp_path / "npz")
    with pytest.raises(NothingUsableError) as error:
        import_original(ImportSettings(tmp_path / "npz", tmp_path / "back"))
    assert "--images" in (error.value.hint or "")
