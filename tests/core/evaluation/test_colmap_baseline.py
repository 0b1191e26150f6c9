"""COLMAP's poses as a baseline: maps are placed where COLMAP's cameras are, each at its scale."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from posed_rooms import SIZE, room_depth

from distill3r_core.data.frame_processing import Processing, process
from distill3r_core.data.frame_reader import SourceFrame
from distill3r_core.evaluation.baselines import BASELINES, colmap_solver
from distill3r_core.evaluation.baselines.colmap_poses import colmap_poses
from distill3r_core.evaluation.baselines.colmap_solver import ColmapSolver
from distill3r_core.evaluation.data_frames import _view_of
from distill3r_core.evaluation.pose_metrics import pose_metrics
from distill3r_core.evaluation.predictions import Unpredicted, maps_of
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import score_poses
from distill3r_core.evaluation.truth import SourceView, Truth
from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.structure_from_motion import SolvedImage
from distill3r_core.report import Silent
from distill3r_core.scenes.paths import pinhole
from distill3r_core.stages.evaluate.scored_baseline import ScoredBaseline
from distill3r_core.types import ImagePlacement, PreparedView

UNIT = 1.7  # meters in one unit of the solver
VIEWS = 4


@pytest.fixture
def truth():
    depth, poses = room_depth(0, VIEWS, 40.0)
    k = pinhole(SIZE)
    image = np.zeros((*SIZE, 3), np.uint8)
    source = SourceFrame(image, intrinsics=k.double().numpy(), is_nominal=True)
    view = _view_of(process(source, Processing()))
    whole = ImagePlacement((0.0, 0.0, float(SIZE[1]), float(SIZE[0])), SIZE)
    intrinsics = k.float().expand(VIEWS, 3, 3)
    return Truth(
        name="s",
        world="s",
        view_names=tuple("abcd"),
        views=(PreparedView(torch.zeros(3, *SIZE), whole),) * VIEWS,
        points=unproject(depth.float(), intrinsics),
        mask=torch.ones(VIEWS, *SIZE, dtype=torch.bool),
        intrinsics=intrinsics,
        poses=poses.double(),
        unit="m",
        contents=(),
        sources=(SourceView(view, whole),) * VIEWS,
    )


@pytest.fixture
def cameras(monkeypatch, truth):
    """The cameras that a solver was given which knows the truth, in a unit of its own."""
    given = []

    def solve_images(views, *, on_step):
        given.extend(camera for _, camera in views)
        on_step("pairs", 0, 6)
        rows, columns = np.mgrid[5:60:7, 5:90:9].reshape(2, -1)
        found = {}
        for index in range(VIEWS - 1):  # the last one is lost
            pose = truth.poses[index].numpy().copy()
            pose[:3, 3] /= UNIT
            seen = truth.points[index, ..., 2].double().numpy()[rows, columns] / UNIT
            pixels = np.stack([columns + 0.5, rows + 0.5], 1)
            k = truth.intrinsics[index].double().numpy()
            found[index] = SolvedImage(pose, pixels, seen, k, SIZE)
        return found

    monkeypatch.setattr(colmap_solver, "solve_images", solve_images)
    return given


@pytest.fixture
def solver(tmp_path):
    return ColmapSolver(tmp_path / "kept", Silent(), VIEWS)


def with_views(truth, **changes):
    """The truth with other facts about the views that it was made of."""
    return replace(
        truth,
        sources=tuple(
            replace(source, view=replace(source.view, **changes)) for source in truth.sources
        ),
    )


def test_maps_are_placed_by_the_solvers_cameras_whatever_their_own_scale(truth, cameras, solver):
    own = torch.tensor([1.0, 2.0, 0.5, 1.0])[:, None, None, None]
    found = BASELINES["colmap_poses"].poses(truth, maps_of(own * truth.points, truth), solver)
    assert found[-1].isnan().all()  # not placed
    for index in range(VIEWS - 1):
        points = own[index] * truth.points[index]
        placed = points.double() @ found[index, :, :3].mT + found[index, :, 3]
        true = truth.points[index].double() @ truth.poses[index, :3, :3].mT
        torch.testing.assert_close(
            UNIT * placed, true + truth.poses[index, :3, 3], atol=1e-4, rtol=1e-4
        )


def test_maps_without_depth_leave_the_figures_that_need_no_scale(truth, cameras, solver):
    protocol = PROTOCOLS["table2"]
    rows = []
    for points in (truth.points, torch.zeros_like(truth.points)):
        row = ScoredBaseline("colmap_poses", None, colmap=solver)
        maps = maps_of(points, truth)
        row.score(truth, maps, score_poses(truth, maps, protocol), protocol, Silent())
        rows.append(row)
    known, unknown = (row.figures(protocol) for row in rows)
    of_poses = {metric.name for metric in pose_metrics(protocol.poses)}
    assert known["auc_30"] is not None
    assert {name: unknown[name] for name in of_poses} == {name: known[name] for name in of_poses}
    assert all(unknown[name] is None for name in unknown if name not in of_poses)
    placed = "3 of 4 views are placed"
    assert rows[0].reasons == {"s": placed}
    why = (
        "maps and poses have no common unit: the model's maps have no depth where COLMAP has points"
    )
    assert rows[1].reasons == {"s": f"{placed}; {why}"}


def test_lengths_of_a_fused_cloud_need_a_scale_and_figures_of_poses_do_not(truth):
    protocol = PROTOCOLS["table2"]
    maps = maps_of(truth.points, truth, poses=truth.poses)
    scored, unscaled = (score_poses(truth, maps, protocol, scaled=one) for one in (True, False))
    differ = {name for name in scored.values if scored.values[name] != unscaled.values[name]}
    assert differ == {"fused"} and unscaled.values["fused"] is None


@pytest.mark.parametrize("is_nominal", [True, False])
def test_only_a_k_that_is_one_value_for_a_kind_is_estimated(truth, cameras, solver, is_nominal):
    truth = with_views(truth, is_nominal=is_nominal)
    colmap_poses(truth, maps_of(truth.points, truth), solver)
    assert [camera.is_fixed for camera in cameras] == [not is_nominal] * VIEWS
    assert {camera.model for camera in cameras} == {"SIMPLE_RADIAL" if is_nominal else "PINHOLE"}


def test_the_kind_of_k_is_known_from_the_frame_to_the_truth(truth):
    assert all(source.view.is_nominal for source in truth.sources)


def test_the_map_of_a_part_of_an_image_is_placed_as_that_of_the_whole(truth, cameras, solver):
    rows, columns = slice(8, 40), slice(6, 60)
    box = (6.0, 8.0, 60.0, 40.0)
    part = replace(
        truth,
        points=truth.points[:, rows, columns],
        mask=truth.mask[:, rows, columns],
        sources=tuple(
            replace(source, placement=ImagePlacement(box, (32, 54))) for source in truth.sources
        ),
    )
    whole = colmap_poses(truth, maps_of(truth.points, truth), solver)
    found = colmap_poses(part, maps_of(part.points, part), solver)
    torch.testing.assert_close(found, whole, equal_nan=True, rtol=1e-5, atol=1e-6)


def test_a_camera_that_nobody_knows_is_estimated(truth, cameras, solver):
    truth = with_views(truth, intrinsics=None, is_nominal=False)
    colmap_poses(truth, maps_of(truth.points, truth), solver)
    assert [camera.params for camera in cameras] == [None] * VIEWS


def test_images_are_solved_once_for_whatever_model_and_again_for_other_k(truth, cameras, solver):
    first = solver.solve(truth)
    again = ColmapSolver(solver.folder, Silent(), VIEWS).solve(replace(truth, name="other"))
    assert len(cameras) == VIEWS
    for index, one in first.items():
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(again[index], name))
    k = truth.sources[0].view.intrinsics * np.array([[1.1], [1.1], [1]])
    solver.solve(with_views(truth, intrinsics=k))
    assert len(cameras) == 2 * VIEWS
    image = truth.sources[0].view.image.copy()
    image[0, 0] = 255
    solver.solve(with_views(truth, image=image))
    assert len(cameras) == 3 * VIEWS
    assert len(list(solver.folder.iterdir())) == 3


def test_a_kept_result_that_is_damaged_is_made_again(truth, cameras, solver):
    solver.solve(truth)
    (path,) = solver.folder.iterdir()
    sound = path.read_text()
    path.write_text(sound.replace('"size"', '"sise"'))
    solver.solve(truth)
    assert len(cameras) == 2 * VIEWS
    assert path.read_text() == sound


@pytest.fixture
def clock(monkeypatch):
    """Seconds that each sequence takes to solve, one after the other; each is asked for twice."""
    taken = []
    readings = (now for seconds in taken for now in (0.0, seconds))
    monkeypatch.setattr(colmap_solver, "perf_counter", lambda: next(readings))
    return taken


def sequences_of(truth, count):
    """Sequences with images of their own."""
    for number in range(count):
        image = np.full((*SIZE, 3), number, np.uint8)
        yield replace(with_views(truth, image=image), name=f"s{number}")


def test_a_range_is_said_before_the_first_sequence_and_nothing_of_kept_ones(
    truth, cameras, solver, clock
):
    clock += [1.0]
    solver.solve(truth)
    (line,) = solver.progress.notes
    assert line.startswith("COLMAP's poses of s (4 views): ") and " to " in line
    assert "--no-colmap leaves it out" in line
    later = ColmapSolver(solver.folder, Silent(), VIEWS)
    later.solve(truth)
    assert later.progress.notes == []


def test_the_time_left_is_told_from_measured_times_and_remaining_views(
    truth, cameras, tmp_path, clock
):
    solver = ColmapSolver(tmp_path, Silent(), 6 * VIEWS)
    clock += [10.0, 12.0, 170.0, 64.0, 64.0, 64.0]
    lines = []
    for sequence in sequences_of(truth, 6):
        said = len(solver.progress.notes)
        solver.solve(sequence)
        lines.append(solver.progress.notes[said:])
    assert " of s0 (4 views): " in lines[0][0]  # of the others nothing is known
    # Five are left, 10 s each.
    assert lines[1] == ["COLMAP's poses: about 50 s for the 20 views left, as 4 took 10 s"]
    assert lines[2] == []  # 44 s are left, 38 s of what was said
    # 192 s for three sequences: 64 s each for three that are left.
    assert lines[3] == ["COLMAP's poses: about 4 min for the 12 views left, as 12 took 4 min"]
    assert lines[4] == lines[5] == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"poses": None}, "no true poses"),
        ({"sources": ()}, "not there"),
        ({"view_names": ("a",)}, "one view alone"),
        ({"view_names": tuple("abcde")}, "over 4 views; --colmap"),
    ],
)
def test_what_cannot_be_solved_says_why_and_costs_nothing(
    truth, cameras, tmp_path, changes, reason
):
    solver = ColmapSolver(tmp_path, Silent(), VIEWS, max_views=4)
    found = solver.solve(replace(truth, **changes))
    assert isinstance(found, Unpredicted) and reason in found.reason
    assert cameras == [] and solver.progress.notes == []


def test_too_few_placed_views_are_counted(truth, monkeypatch, solver):
    monkeypatch.setattr(colmap_solver, "solve_images", lambda views, on_step: {})
    found = colmap_poses(truth, maps_of(truth.points, truth), solver)
    assert found == Unpredicted("COLMAP placed 0 of 4 views")


def test_the_expected_time_grows_with_pairs_pixels_and_fewer_cores():
    small, large = [(480, 640)] * 10, [(960, 1280)] * 10
    alone = colmap_solver.expected_seconds(small, cores=1)
    assert alone / 4 < colmap_solver.expected_seconds(small, cores=4) < alone
    assert colmap_solver.expected_seconds(large, cores=1) > 4 * alone
    assert colmap_solver.expected_seconds(small * 2, cores=1) > 2 * alone
