"""A scene student is trained in the frame of its scene, however its samples are cut."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from posed_rooms import write_rendered_room
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation

from distill3r_core import config
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import CacheError, ConfigError
from distill3r_core.geometry.camera_alignment import fit_world
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import apply_similarity, compose, invert_similarity
from distill3r_core.losses.loss_term import TermInputs
from distill3r_core.losses.scene_points import ScenePointsOptions, scene_points_error
from distill3r_core.models import load_student
from distill3r_core.models.families import train_presets
from distill3r_core.models.scene.frames import network_from_scene
from distill3r_core.profiling import pick_device
from distill3r_core.scenes import render_scene
from distill3r_core.scenes.render import cast
from distill3r_core.scenes.scene import build_scene
from distill3r_core.stages.cache import CacheSettings, build_cache
from distill3r_core.stages.evaluate import EvalSettings, evaluate
from distill3r_core.stages.manifest import ManifestSettings, build_manifest
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.training.distributed import World
from distill3r_core.training.feed import Feed, SceneTransforms, build_feed
from distill3r_core.training.scene_labels import scene_labels
from distill3r_core.training.settings import DataSettings
from distill3r_core.types import PointMaps, TeacherTargets

SMALL = "model.network={width: 16, depth: 2, heads: 2, head_width: 8, dropout: 0}"


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rooms in a cache of exact depth, four views a sample."""
    home = tmp_path_factory.mktemp("scenes")
    for seed in range(2):
        write_rendered_room(home / "rooms" / f"room-{seed}", seed, views=14, size=(70, 98))
    manifest = ManifestSettings(
        roots=(home / "rooms",), output=home / "data", views=4, stride=1, val_frames="last:4"
    )
    build_manifest(manifest)
    cache = home / "caches/teacher"
    build_cache(CacheSettings(home / "data/manifest.csv", cache, size="28x42", device="cpu"))
    return home


def settings_for(home: Path, run: Path, *sets: str, **options: object) -> TrainSettings:
    given = {
        "preset": "scene-vit", "cache": home / "caches/teacher", "output": run, "max_steps": 4,
        "device": "cpu", "scene": ("room-1",), **options,
    }  # fmt: skip
    return config.resolve(
        TrainSettings, section="train", options=given, sets=(SMALL, *sets), presets=train_presets()
    )


def test_the_world_of_an_anchor_is_found_from_poses_in_any_frame_and_unit() -> None:
    generator = np.random.default_rng(0)
    poses = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    poses[:, :3, :3] = torch.from_numpy(Rotation.random(5, random_state=1).as_matrix())
    poses[:, :3, 3] = torch.from_numpy(generator.normal(size=(5, 3)))
    world = torch.cat([0.3 * poses[0, :3, :3], torch.tensor([[1.0], [2], [3]])], dim=1)
    wanted = rigid_of(compose(world.expand(5, 3, 4), poses[:, :3]))
    found = fit_world(poses, wanted)
    assert found is not None
    torch.testing.assert_close(found, world, rtol=1e-12, atol=1e-12)
    still = poses.clone()
    still[:, :3, 3] = 1.0
    assert fit_world(still, wanted) is None
    known = fit_world(still, still, scale=1.0)
    assert known is not None
    torch.testing.assert_close(known, torch.eye(3, 4, dtype=torch.float64))


def scene_feed(cache: CacheUnion, transforms: SceneTransforms, **data: float) -> Feed:
    return build_feed(
        cache,
        DataSettings(views=2, batch=2, accumulation=1, **data),
        validation_samples=2,
        seed=0,
        world=World.from_environment(),
        device=pick_device("cpu"),
        scenes=transforms,
    )


def test_what_cameras_nearby_see_has_its_place_in_the_scene(rooms: Path) -> None:
    cache = CacheUnion.open([rooms / "caches/teacher"])
    labels = scene_labels(cache, ["room-1"], size=None)
    scene = build_scene(1)
    back = invert_similarity(network_from_scene(labels.frames, 0))
    apart = []
    with (
        closing(scene_feed(cache, labels.transforms).batches(0)) as plain,
        closing(scene_feed(cache, labels.transforms, turn=15, shift=0.15).batches(0)) as moved,
    ):
        for own, nearby in islice(zip(plain, moved, strict=False), 4):
            still, found = (one.to(torch.device("cpu")).targets for one in (own, nearby))
            assert not torch.equal(still.global_from_local, found.global_from_local)
            centers = apply_similarity(back, still.global_from_local[..., 3].double()).float()
            points = apply_similarity(back, found.points_global.double()).float()
            for center, there, mask in zip(
                centers.flatten(0, 1),
                points.flatten(0, 1),
                found.valid_mask.flatten(0, 1),
                strict=True,
            ):
                towards = there[mask] - center  # t = 1 is the point
                first = cast(scene, center.expand_as(towards), towards)[0]
                apart.append((first - 1).abs())
    assert float((torch.cat(apart) > 0.05).float().mean()) < 0.03  # rims, to a pixel


def test_labels_of_all_samples_are_the_true_points_of_one_frame(rooms: Path) -> None:
    cache = CacheUnion.open([rooms / "caches/teacher"])
    labels = scene_labels(cache, ["room-1"], size=None)
    (frame,) = labels.frames
    assert frame.metric
    assert frame.posed
    feed = scene_feed(cache, labels.transforms)
    assert {name.split("/")[1] for name in (*feed.available, *feed.held_out)} == {"room-1"}
    scene = render_scene(1, 14, (70, 98))
    known = scene.world_from_cam[:, :3].double()
    points = []
    batches = feed.batches(0)
    for _ in range(6):
        batch = next(batches).to(torch.device("cpu"))
        mask = batch.targets.valid_mask
        # Each view's own points, carried by its true pose.
        network = network_from_scene(labels.frames, 0)
        carried = batch.targets.global_from_local.double()
        there = rigid_of(compose(invert_similarity(network).expand_as(carried), carried))
        distance = (there[..., None, :3, :] - known).flatten(-2).norm(dim=-1).min(-1).values
        assert distance.max() < 2e-3  # poses are stored as text, depth in millimeters
        points.append(batch.targets.points_global[mask])
    batches.close()
    together = torch.cat(points)
    assert together.mean(0).norm() < 0.1
    assert together.norm(dim=-1).square().mean() == pytest.approx(1, abs=0.1)


def test_one_scene_is_taken_and_several_have_to_be_named(rooms: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are 2: rooms/room-0, rooms/room-1"):
        train(settings_for(rooms, tmp_path / "run", scene=()))
    with pytest.raises(ConfigError, match="--scene attic: there are rooms/room-0"):
        train(settings_for(rooms, tmp_path / "run", scene=("attic",)))
    with pytest.raises(ConfigError, match="several of"):
        train(settings_for(rooms, tmp_path / "run", scene=("room-0", "rooms")))
    with pytest.raises(ConfigError, match=r"data\.mirror: .* mirrored") as raised:
        train(settings_for(rooms, tmp_path / "run", "data.mirror=true"))
    assert raised.value.hint is not None and "data.mirror=false" in raised.value.hint
    for term in ("planar", "gradient", "regression", "pose"):
        with pytest.raises(ConfigError, match=f"loss: {term} reads local maps"):
            train(settings_for(rooms, tmp_path / "run", f"loss.terms.{term}.weight=0.1"))
    options = {"preset": "tiny", "cache": rooms / "caches/teacher", "scene": ("room-0",)}
    other = config.resolve(TrainSettings, section="train", options=options, presets=train_presets())
    with pytest.raises(ConfigError, match="learn no scene"):
        train(other)
    assert not (tmp_path / "run").exists()


def test_samples_without_a_common_frame_are_refused_unless_one_holds_the_scene(
    make_cache: Callable[..., Path], tmp_path: Path
) -> None:
    one = CacheUnion.open([make_cache(tmp_path / "one", sizes=[(28, 42)], held_out=1)])
    labels = scene_labels(one, ["made/00"], size=None)
    assert list(labels.transforms) == ["made/00/000"]
    with pytest.raises(CacheError, match="no place in a common frame"):
        scene_labels(
            CacheUnion.open([make_cache(tmp_path / "two", held_out=0)]), ["made"], size=None
        )


def test_a_sample_without_poses_holds_no_scene(
    make_cache: Callable[..., Path], tmp_path: Path
) -> None:
    def unposed(_: int, targets: TeacherTargets) -> TeacherTargets:
        views = len(targets.points_local)
        return replace(
            targets,
            global_from_local=torch.eye(3, 4).repeat(views, 1, 1),
            local_only=torch.ones(views, dtype=torch.bool),
        )

    cache = make_cache(tmp_path / "one", sizes=[(28, 42)], held_out=0, change=unposed)
    with pytest.raises(
        CacheError, match=r"made/00/000 of the scene made/00 .* without poses"
    ) as no:
        scene_labels(CacheUnion.open([cache]), ["made/00"], size=None)
    assert "--poses colmap" in (no.value.hint or "")


def test_a_run_states_errors_in_units_of_the_scene_and_in_meters(
    rooms: Path, tmp_path: Path
) -> None:
    report = train(settings_for(rooms, tmp_path / "run", "validation.every_steps=2"))
    student = load_student(tmp_path / "run")
    (frame,) = student.spec.scenes
    assert frame.name == "room-1"
    found = report.result["validation"]
    squared = found["validation_loss_scene_points"] * frame.scale**2
    assert found["validation_mse_scene"] == pytest.approx(squared, rel=1e-4)
    assert found["validation_points_scene"] > 0
    assert report.result["loss_last"] < report.result["loss_first"]
    assert (tmp_path / "run/predictions.png").is_file()
    pictures = (tmp_path / "run/pictures.txt").read_text().splitlines()
    assert len([line for line in pictures if not line.startswith("#")]) == 10


def test_several_scenes_lie_apart_in_one_student(rooms: Path, tmp_path: Path) -> None:
    train(settings_for(rooms, tmp_path / "run", scene=("room-0", "room-1")))
    first, second = load_student(tmp_path / "run").spec.scenes
    assert (first.name, second.name) == ("room-0", "room-1")
    assert first.center != second.center


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints/last/model.safetensors")


def test_the_released_form_is_trained_by_its_configuration(rooms: Path, tmp_path: Path) -> None:
    options = {"cache": rooms / "caches/teacher", "scene": ("room-1",), "max_steps": 1}
    small = {"width": 16, "depth": 1, "heads": 2, "head_width": 8}
    settings = config.resolve(
        TrainSettings, section="train", config="scene-vit-2412.02039",
        sets=[f"model.network.{name}={value}" for name, value in small.items()],
        options={**options, "output": tmp_path / "run"}, presets=train_presets(),
    )  # fmt: skip
    train(settings)
    network = load_student(tmp_path / "run").spec.network
    assert (network.attention, network.edges, network.patch) == ("none", "drop", 16)


@pytest.mark.parametrize("preset", ["scene-vit", "scene-cnn"])
def test_accumulated_micro_batches_are_one_batch(rooms: Path, tmp_path: Path, preset: str) -> None:
    same = ("compute.precision=float64", *(
        ["model.network={width: 8}"] if preset == "scene-cnn" else [SMALL]
    ))  # fmt: skip
    for run, cut in {"whole": (4, 1), "cut": (1, 4)}.items():
        given = {
            "preset": preset, "cache": rooms / "caches/teacher", "output": tmp_path / run,
            "max_steps": 3, "device": "cpu", "scene": ("room-1",),
        }  # fmt: skip
        sets = (*same, f"data.batch={cut[0]}", f"data.accumulation={cut[1]}")
        train(config.resolve(
            TrainSettings, section="train", options=given, sets=sets, presets=train_presets()
        ))  # fmt: skip
    mine, theirs = weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole")
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("preset", "network"),
    [
        ("scene-mobilenet", "model.network={}"),
        ("scene-vit", SMALL.replace("dropout: 0", "dropout: 0.2")),
    ],
)
def test_stopped_and_resumed_a_run_ends_bit_identical(
    rooms: Path, tmp_path: Path, preset: str, network: str
) -> None:
    def run(name: str, **options: object) -> None:
        given = {
            "preset": preset, "cache": rooms / "caches/teacher", "output": tmp_path / name,
            "device": "cpu", "scene": ("room-0",), "encoder_weights": "none", **options,
        }  # fmt: skip
        sets = (network, "checkpoint.every_steps=2", "schedule.extend=constant")
        settings = config.resolve(
            TrainSettings, section="train", options=given, sets=sets, presets=train_presets()
        )
        train(settings, resume=(tmp_path / name).exists())

    run("whole", max_steps=4)
    run("parts", max_steps=4, max_hours=1e-9)  # stops after its first step
    assert not json.loads((tmp_path / "parts/run.json").read_text())["finished"]
    run("parts", max_steps=4)
    mine, theirs = weights_of(tmp_path / "parts"), weights_of(tmp_path / "whole")
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def inputs_of(predicted: torch.Tensor, true: torch.Tensor, mask: torch.Tensor) -> TermInputs:
    confidence = 1 + torch.arange(mask.numel()).reshape(mask.shape).float()
    targets = TeacherTargets(
        true, confidence, confidence, mask, torch.eye(3, 4).expand(*mask.shape[:2], 3, 4)
    )
    return TermInputs(PointMaps(predicted, None, torch.ones(mask.shape), None), targets)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, (0.6**2 + 0.3**2) / 3),
        ({"error": "l1"}, 0.9 / 3),
        ({"error": "huber", "huber_delta": 0.5}, (0.5 * (0.6 - 0.25) + 0.5 * 0.3**2) / 3),
    ],
)
def test_errors_of_a_coordinate_by_hand(options: dict[str, object], value: float) -> None:
    true = torch.zeros(1, 1, 1, 2, 3)
    predicted = torch.tensor([[0.6, 0.0, -0.3], [float("nan"), 7.0, 7.0]]).reshape(1, 1, 1, 2, 3)
    mask = torch.tensor([True, False]).reshape(1, 1, 1, 2)
    predicted.requires_grad_()
    loss = scene_points_error(
        inputs_of(predicted, true, mask), options=ScenePointsOptions(**options)
    )
    assert loss.item() == pytest.approx(value)
    loss.backward()
    assert predicted.grad is not None
    assert predicted.grad[0, 0, 0, 1].tolist() == [0, 0, 0]


def test_confidence_weighs_pixels_within_a_sample() -> None:
    true = torch.zeros(1, 1, 1, 2, 3)
    predicted = torch.tensor([[3.0, 0, 0], [0, 0, 0]]).reshape(1, 1, 1, 2, 3)
    inputs = inputs_of(predicted, true, torch.ones(1, 1, 1, 2, dtype=torch.bool))
    weighted = ScenePointsOptions(weighting="confidence")
    assert scene_points_error(inputs, options=weighted).item() == pytest.approx(3 * 1 / (1 + 2))
    nothing = replace(inputs.targets, valid_mask=torch.zeros(1, 1, 1, 2, dtype=torch.bool))
    empty = TermInputs(inputs.predicted, nothing)
    assert scene_points_error(empty, options=weighted).item() == 0
    unposed = replace(inputs.targets, local_only=torch.ones(1, 1, dtype=torch.bool))
    alone = TermInputs(inputs.predicted, unposed)
    assert scene_points_error(alone, options=ScenePointsOptions()).item() == 0


def test_a_student_of_several_scenes_is_localized_in_each(rooms: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(settings_for(rooms, run, max_steps=1, scene=("room-0", "room-1")))
    for data in (None, rooms / "rooms"):
        report = evaluate(
            EvalSettings(
                models=(str(run),), protocol="localization", data=data, device="cpu",
                output=tmp_path / f"out-{data is None}",
            )
        )  # fmt: skip
        # After one step no view is near its place, but all are asked for it.
        assert report.result["metrics"]["location_near"] == 0
        assert not any("no place in the scene" in note for note in report.notes)
