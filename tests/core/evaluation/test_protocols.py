"""Every protocol on the truth itself and on broken predictions; frames and published rows."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill3r_core.errors import FailedError
from distill3r_core.evaluation.cloud_metrics import CLOUD_METRICS
from distill3r_core.evaluation.pose_metrics import pose_metrics
from distill3r_core.evaluation.predictions import predict_truth
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.protocols.alignments import UnalignedError
from distill3r_core.evaluation.protocols.frame_rules import ConsecutiveFrames
from distill3r_core.evaluation.protocols.table2 import SEVEN_SCENES_TEST, SEVEN_SCENES_VIEWS
from distill3r_core.evaluation.scores import (
    SequenceScore,
    columns_of,
    figures_of,
    metrics_of,
    score_sequence,
)
from distill3r_core.evaluation.terrain.pair_metrics import PAIR_METRICS
from distill3r_core.evaluation.truth import Truth
from distill3r_core.evaluation.view_truth import fit_views
from distill3r_core.geometry.cameras import place_intrinsics
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.types import View

SIZE = (240, 252)  # CUT3R cuts 224 rows and columns out of the middle
SURFACES = {"fscore", "chamfer", "fscore_true_poses", "chamfer_true_poses"}
OF_SEQUENCES = ("spann3r", "fast3r", "cut3r", "pi3-sparse", "pi3-dense", "lunar")
OF_CLOUDS = {metric.name for metric in CLOUD_METRICS} | {"scale_norm"}


def _truth(views: int = 3, size: tuple[int, int] = (12, 15), *, collinear: bool = False) -> Truth:
    generator = torch.Generator().manual_seed(0)
    rows, columns = size
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    depth = 2 + torch.rand(views, *size, generator=generator)
    rays = torch.stack([(x - columns / 2) / columns, (y - rows / 2) / columns, torch.ones_like(x)])
    turns = torch.randn(views, 3, 3, generator=generator, dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    poses[:, :3, :3] = torch.matrix_exp(0.2 * (turns - turns.mT))
    poses[:, :3, 3] = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    if collinear:
        poses[:, 1:3, 3] = 0
    intrinsics = torch.tensor([[columns, 0, columns / 2], [0, columns, rows / 2], [0, 0, 1]])
    mask = torch.rand(views, *size, generator=generator) > 0.1
    mask[:, :11, :11] = True  # a window of SSIM's
    return Truth(
        name="category/sequence",
        world="category/sequence",
        view_names=tuple(f"view {index}" for index in range(views)),
        views=(),
        points=rays.movedim(0, -1) * depth[..., None],
        mask=mask,
        intrinsics=intrinsics.float().expand(views, 3, 3),
        poses=poses,
        unit="m",
        contents=(),
        world_poses=poses,
    )


def _assert_perfect(name: str, figures) -> None:
    for metric in metrics_of(PROTOCOLS[name]):
        if name.startswith(("da3", "spatialbench")) and metric.name in SURFACES:
            continue  # these truths have no surface
        if metric in PAIR_METRICS:
            continue  # of two views that see the same: test_ground_pairs
        if metric.name == "coordinate_mse":
            continue  # its unit is the radius that a student has learned
        figure = figures[metric.name]
        share = metric.better in ("higher", "one")
        assert figure is not None, metric.name
        if metric.name == "fscore":
            assert figure == 1
        elif name == "co3d-fast3r" and metric.name == "rotation_median":
            assert figure == pytest.approx(0.4051, abs=1e-3)  # their least error
        elif name == "co3d-fast3r" and metric.name.startswith("auc"):
            assert figure > 0.99
        else:
            assert figure == pytest.approx(1.0 if share else 0.0, abs=1e-3), metric.name


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_the_truth_is_perfect_in_every_protocol(name):
    protocol = PROTOCOLS[name]
    for truth in (_truth(4), _truth(2), _truth(4, collinear=True)):
        score = score_sequence(truth, predict_truth(truth), protocol)
        _assert_perfect(name, figures_of([score], protocol))
    assert {metric.name for metric in columns_of(protocol)} <= set(score.values)


def test_the_truth_is_perfect_in_the_middle_of_cut3r():
    protocol = replace(PROTOCOLS["cut3r"], metrics=("acc", "comp", "acc_mean", "chamfer", "fscore"))
    truth = _truth(1, SIZE)
    figures = figures_of([score_sequence(truth, predict_truth(truth), protocol)], protocol)
    assert figures["fscore"] == 1
    assert max(figures[name] for name in ("acc", "comp", "acc_mean", "chamfer")) < 1e-3


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"localization"}))
def test_a_single_view_has_maps_and_no_pairs(name):
    protocol, truth = PROTOCOLS[name], _truth(1)
    figures = figures_of([score_sequence(truth, predict_truth(truth), protocol)], protocol)
    pairs = {metric.name for metric in pose_metrics(protocol.poses)} & figures.keys()
    assert pairs or name == "spatialbench-single"
    assert all(figures[metric] is None for metric in pairs)
    for metric in ("acc", "comp", "abs_rel", "depth_mae", "slope_mae"):
        assert figures.get(metric, 0.0) == pytest.approx(0, abs=1e-3), metric


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"localization", "spatialbench-single"}))
def test_a_pose_that_is_not_a_number_fails_its_pairs_and_leaves_no_cloud(name):
    protocol, truth = PROTOCOLS[name], _truth(4)
    maps = predict_truth(truth)
    similarities = maps.global_from_local.clone()
    similarities[1] = math.nan
    maps = replace(maps, global_from_local=similarities)
    figures = figures_of([score_sequence(truth, maps, protocol)], protocol)
    assert figures["rra_5"] == figures["rta_5"] == 0.5  # 3 of 6 pairs
    assert figures.get("ate") is figures.get("fused") is None
    if name in OF_SEQUENCES:
        assert {metric for metric in OF_CLOUDS & figures.keys() if figures[metric] is None} == (
            OF_CLOUDS & figures.keys()
        )
    elif "acc" in figures:
        assert figures["acc"] == pytest.approx(0, abs=1e-3)  # a similarity of each view
    depth = [figures[metric] for metric in ("abs_rel", "depth_mae") if metric in figures]
    assert depth == pytest.approx([0.0] * len(depth), abs=1e-5)


@pytest.mark.parametrize("name", OF_SEQUENCES)
def test_views_that_are_not_placed_have_depth_and_no_cloud(name):
    protocol, truth, steps = PROTOCOLS[name], _truth(2), []
    placed = predict_truth(truth)
    nowhere = [torch.full_like(points, math.nan) for points in placed.points_local]
    for maps in (
        replace(placed, global_from_local=None),
        replace(placed, points_global=nowhere),
    ):
        with pytest.raises(UnalignedError, match="does not place all views"):
            list(protocol.alignment.align(truth, maps))
        score = score_sequence(truth, maps, protocol, on_view=lambda: steps.append(1))
        figures = figures_of([score], protocol)
        assert all(figures[metric] is None for metric in OF_CLOUDS & figures.keys())
        assert figures["delta_125"] == 1
    assert len(steps) == 2 * len(truth.view_names)
    # A truth without poses is the data's fault, and not a figure that is missing.
    with pytest.raises(FailedError, match="has no poses, which its protocol needs"):
        score_sequence(replace(truth, poses=None), placed, protocol)


def test_da3_poses_do_not_compare_with_the_others_and_say_so():
    truth = _truth(5)
    maps = predict_truth(truth)
    turns = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    moved = maps.global_from_local.clone()
    moved[:, :, :3] = moved[:, :, :3] @ torch.matrix_exp(0.2 * (turns - turns.mT))
    maps = replace(maps, global_from_local=moved)
    found = {}
    for name in ("table2", "co3d-pi3", "da3-bench"):
        figures = figures_of([score_sequence(truth, maps, PROTOCOLS[name])], PROTOCOLS[name])
        found[name] = figures["translation_median"]
        rules = PROTOCOLS[name].all_rules()
        assert rules["pose_form"].split(":")[0] == PROTOCOLS[name].poses.form
    assert len({round(value, 3) for value in found.values()}) == 3


@pytest.mark.parametrize(
    ("name", "keys"),
    [("table2", {"fscore"}), ("localization", {"location_near", "coordinate_mse_metric"})],
)
def test_what_is_in_meters_says_nothing_of_a_truth_without_a_unit(name, keys):
    truth, protocol = _truth(3), PROTOCOLS[name]
    figures = [
        figures_of([score_sequence(one, predict_truth(one), protocol)], protocol)
        for one in (truth, replace(truth, unit="none"))
    ]
    assert all(figures[0][key] is not None and figures[1][key] is None for key in keys)
    assert {other for other in figures[0] if figures[0][other] != figures[1][other]} == keys


@pytest.mark.parametrize("name", ["table2", "spatialbench-sparse", "lunar"])
def test_depth_behind_the_cameras_is_not_perfect(name):
    truth, protocol = _truth(3), PROTOCOLS[name]
    maps = predict_truth(truth)
    behind = replace(maps, points_local=[-one for one in maps.points_local])
    right, wrong = (
        figures_of([score_sequence(truth, one, protocol)], protocol) for one in (maps, behind)
    )
    depth = "depth_mae" if name == "lunar" else "abs_rel"
    assert right["delta_125"] == 1 and right[depth] == pytest.approx(0, abs=1e-6)
    assert wrong["delta_125"] == 0 and wrong[depth] is None
    assert all(wrong[key] is None for key in wrong if key.startswith("hazard"))


def test_categories_are_pooled_before_they_are_averaged():
    protocol = replace(PROTOCOLS["co3d-vggt"], metrics=("rra_15",))
    scores = [
        SequenceScore(name, 2, {"rra_15": values})
        for name, values in (("a/1", [1.0, 1.0, 1.0]), ("a/2", [99.0]), ("b/1", [99.0]))
    ]
    assert figures_of(scores, protocol)["rra_15"] == pytest.approx((3 / 4 + 0) / 2)
    below = [replace(score, name=f"co3d/{score.name}") for score in scores]
    assert figures_of(below, protocol) == figures_of(scores, protocol)  # named by data set too
    pooled = replace(protocol, aggregation="pooled")
    assert figures_of(scores, pooled)["rra_15"] == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (40, [(0, 20), (20, 40)]),
        (45, [(0, 20), (20, 40), (25, 45)]),
        (7, [(0, 7)]),
        (20, [(0, 20)]),
    ],
)
def test_windows_are_consecutive_and_the_last_one_ends_with_the_last_frame(count, expected):
    windows = ConsecutiveFrames(20, "")("any", {"scene": list(range(count))})
    assert [(one.frames[0], one.frames[-1] + 1) for one in windows] == expected
    assert len({one.name for one in windows}) == len(windows)
    assert all(
        list(one.frames) == list(range(one.frames[0], one.frames[-1] + 1)) for one in windows
    )


def test_random_frames_are_the_same_each_time_and_in_the_order_of_names():
    rule = PROTOCOLS["co3d-vggt"].frames
    sequences = {"b/1": [None] * 60, "a/1": [None] * 80}
    windows = rule("any", sequences)
    assert [one.sequence for one in windows] == ["a/1", "b/1"]
    assert all(len(set(one.frames)) == 10 for one in windows)
    assert [one.frames for one in rule("any", sequences)] == [one.frames for one in windows]


def test_da3_bench_takes_the_published_frames():
    rule = PROTOCOLS["da3-bench"].frames
    names = {"x/chess/seq-01": 1000, "x/chess/seq-03": 1000, "x/stairs/seq-02": 500}
    windows = rule("7scenes", {name: list(range(count)) for name, count in names.items()})
    assert [one.sequence for one in windows] == ["x/chess/seq-01", "x/stairs/seq-02"]
    assert [sum(one.frames) for one in windows] == [49150, 22902]  # as recorded from their code
    assert windows[0].frames[:4] == (1, 16, 18, 24)


def test_published_figures_stand_beside_all_of_their_data_alone():
    published = PROTOCOLS["table2"].published["7scenes"]
    names = [f"7scenes/{name}" for name in SEVEN_SCENES_TEST]
    assert published.fits(names, SEVEN_SCENES_VIEWS)
    assert not published.fits(names, SEVEN_SCENES_VIEWS - 1)
    assert not published.fits(names[1:], SEVEN_SCENES_VIEWS)
    assert not published.fits([*names[1:], "7scenes/chess/seq-01"], SEVEN_SCENES_VIEWS)


@pytest.mark.parametrize("layout", ["7scenes", "dtu"])
def test_published_figures_stand_beside_figures_of_their_own_grid_alone(layout):
    published = PROTOCOLS["table2"].published[layout]
    names, views = sorted(published.sequences), published.views

    def beside(grid, *, scored=views):
        return [row.name for row in published.rows_beside(names, scored, grid)]

    assert beside((224, 518)) == ["Distill3R, 224x518"]
    assert beside((384, 512)) == ["Fast3R, 384x512"]
    assert beside((112, 154)) == beside((518, 224)) == []
    assert beside((224, 518), scored=views - 1) == []
    for row in published.rows:  # a figure of a metric that the table has
        assert row.figures.keys() <= set(PROTOCOLS["table2"].metrics)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_protocol_says_its_input_and_its_mask(name):
    protocol = PROTOCOLS[name]
    rules = protocol.all_rules()
    rows, columns = protocol.grid
    assert rules["input"].startswith(f"{rows}x{columns} (rows x columns), ")
    assert ("middle" in rules["input"]) == (protocol.fit == "crop")
    assert rules["mask"] == protocol.mask
    assert ("224" in rules["mask"]) == (name == "cut3r")
    assert all(isinstance(text, str) and text for text in rules.values())


def test_half_the_depth_of_a_scene_is_right_once_it_is_aligned():
    protocol, truth = PROTOCOLS["spatialbench-sparse"], _truth(3)
    whole = predict_truth(truth)
    half = replace(whole, points_local=[points / 2 for points in whole.points_local])
    figures = figures_of([score_sequence(truth, half, protocol)], protocol)
    for name in ("abs_rel", "sq_rel", "rmse", "log_rmse", "tgm"):
        assert figures[name] == pytest.approx(0, abs=1e-4), name
    assert figures["delta_125"] == figures["inlier_103"] == 1
    assert figures["abs_rel_metric"] == pytest.approx(0.5)
    assert figures["log_rmse_metric"] == pytest.approx(math.log(2))
    assert figures["delta_125_3_metric"] == figures["inlier_110_metric"] == 0


@pytest.mark.parametrize("name", ["table2", "pi3-sparse"])
def test_the_order_of_placed_views_changes_no_figure(name):
    """But of translations, whose direction is in the frame of one of two cameras, and of steps."""
    protocol, truth = PROTOCOLS[name], _truth(4)
    maps = predict_truth(truth)
    turns = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    moved = maps.global_from_local.clone()
    moved[:, :, :3] = torch.matrix_exp(0.1 * (turns - turns.mT)) @ moved[:, :, :3]
    maps = replace(maps, global_from_local=moved)
    order = [2, 0, 3, 1]
    other_truth = replace(
        truth,
        points=truth.points[order],
        mask=truth.mask[order],
        poses=truth.poses[order],
        world_poses=truth.poses[order],
    )
    other = replace(predict_truth(other_truth), global_from_local=moved[order], points_global=None)
    found = [
        figures_of([score_sequence(of, of_maps, protocol)], protocol)
        for of, of_maps in ((truth, maps), (other_truth, other))
    ]
    kept = ("acc", "comp", "acc_mean", "comp_mean", "nc", "fused", "fused_true_poses", "ate")
    kept += ("rotation_median", "rra_5", "abs_rel")
    compared = [metric for metric in kept if metric in found[0]]
    assert len(compared) >= 5
    for metric in compared:
        assert found[0][metric] is not None, metric
        assert found[1][metric] == pytest.approx(found[0][metric], rel=1e-4), metric
    assert found[0].get("fused", 1) > 0.1 or name != "table2"


@pytest.mark.parametrize(
    ("name", "focal", "center"),
    [
        ("spann3r", (245.0, 245.0), (111.7333, 111.7333)),
        ("fast3r", (560.0, 560.0), (256.0333, 256.0333)),
        ("cut3r", (420.0, 420.0), (255.9, 191.9)),
        # Pi3's own K has an x-focal of 428.75 for this stretched image, which its rules name.
        ("pi3-sparse", (525 * 518 / 640, 428.75), (258.9047, 195.9083)),
    ],
)
def test_a_kinect_s_intrinsics_become_those_of_the_published_evaluations(name, focal, center):
    """Theirs count from the center of the first pixel, ours from its corner."""
    protocol = PROTOCOLS[name]
    image = np.zeros((480, 640, 3), np.uint8)
    view = View(image=image, sample="kinect", index=0)
    fit = ImageFit(size=protocol.grid, mode=protocol.fit)
    (prepared,) = fit_views([view], fit)
    given = torch.tensor([[525.0, 0, 320.5], [0, 525, 240.5], [0, 0, 1]], dtype=torch.float64)
    k = place_intrinsics(given, prepared.placement)
    assert (float(k[0, 0]), float(k[1, 1])) == pytest.approx(focal, abs=1e-3)
    assert (float(k[0, 2]) - 0.5, float(k[1, 2]) - 0.5) == pytest.approx(center, abs=1e-3)
