"""Global alignment against recorded runs of the original, and against the truth they came from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_networks import slices
from recorded import load_arrays, load_json

from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.focal import estimate_focal, estimate_focal_median
from distill3r_core.geometry.registration import rotation_angle
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity, scale_of
from distill3r_core.teachers.pairwise.cleaning import clean_confidence
from distill3r_core.teachers.pairwise.optimization import Aligned, PairAlignment, align
from distill3r_core.teachers.pairwise.predictions import PairPredictions, collect
from distill3r_core.teachers.pairwise.tree import place_by_tree
from distill3r_core.teachers.pairwise.two_views import place_two

INTEGER_PIXELS = 0.0  # where the original sees a pixel
EXACT = 1e-5
PLACED = 2e-2  # a view that PnP placed there, and its own map here, in units of the world
LOSS = 1e-2  # relative


class Recorded:
    def __init__(self, folder, stem):
        self.stem, self.facts = stem, load_json(folder, stem)
        self.arrays = load_arrays(folder, stem)
        edges = [(int(i), int(j)) for i, j in self.arrays["in/edges"]]
        rows, columns = self.arrays["in/pred_i"].shape[1:3]
        self.size = (rows, columns)
        self.pairs = self.of(edges, len(self.arrays["truth/focal"]))

    def tensor(self, name) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def of(self, edges, views) -> PairPredictions:
        listed = self.arrays["in/edges"].tolist()
        chosen = [listed.index(list(edge)) for edge in edges]
        names = ("in/pred_i", "in/pred_j", "in/conf_i", "in/conf_j")
        maps = [tuple(self.tensor(name)[index] for name in names) for index in chosen]
        return collect(edges, [self.size] * views, maps)

    def stored(self, name, found) -> torch.Tensor:
        """The slice of our flat maps that was recorded."""
        every = slices(self.facts["outputs"][name]["stored_index"])
        return found.reshape(len(found), *self.size, *found.shape[2:])[every]

    def center_error(self, poses) -> float:
        """Largest distance to a true camera center after one similarity."""
        found = torch.as_tensor(poses, dtype=torch.float64)[:, :3, 3]
        true = self.tensor("truth/cam2world")[:, :3, 3]
        return float(
            (apply_similarity(fit_similarity(found, true), found) - true).norm(dim=1).max()
        )

    def focal_error(self, focals) -> float:
        true = self.tensor("truth/focal")
        return float(((torch.as_tensor(focals) - true) / true).abs().max())


@pytest.fixture(scope="module", params=["pairwise_alignment", "pairwise_alignment_focals"])
def recorded(request, golden_dir):
    return Recorded(golden_dir, request.param)


@pytest.fixture(scope="module")
def start(recorded):
    return place_by_tree(recorded.pairs, center=INTEGER_PIXELS)


@pytest.fixture(scope="module")
def aligned(recorded, start) -> Aligned:
    steps = recorded.facts["settings"]["niter"]
    return align(recorded.pairs, start, steps=steps, center=INTEGER_PIXELS)


def close(found, wanted, bar) -> None:
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    assert np.abs(np.asarray(found) - wanted).max() <= bar * np.abs(wanted).max()


def test_focal_lengths_of_the_pairs(recorded):
    maps = recorded.tensor("in/pred_i")
    rounds = estimate_focal(maps, center=INTEGER_PIXELS, rounds=10)
    close(rounds, recorded.arrays["focal/weiszfeld"], EXACT)
    median = estimate_focal_median(maps, center=INTEGER_PIXELS)
    close(median, recorded.arrays["focal/median"], 1e-4)


def test_scores_and_confidences(recorded):
    close(recorded.pairs.score(), recorded.arrays["edge_score"], 1e-6)
    found = recorded.stored("conf/per_image_max", recorded.pairs.view_confidence())
    close(found, recorded.arrays["conf/per_image_max"], 0)


def test_the_first_pair_is_registered_as_the_original_does(recorded):
    scale, turn = recorded.arrays["registration/s"], recorded.arrays["registration/R"]
    similarity = np.concatenate([scale * turn, recorded.arrays["registration/T"][:, None]], axis=1)
    edge = int(recorded.pairs.edges[0, 0])
    pose, depth = recorded.tensor("truth/cam2world")[edge], recorded.tensor("truth/depth")[edge]
    rows, columns = recorded.size
    v, u = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    focal = recorded.tensor("truth/focal")[edge]
    local = torch.stack(
        [(u - columns / 2) / focal * depth, (v - rows / 2) / focal * depth, depth], dim=-1
    )
    world = local.reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]
    found = fit_similarity(
        recorded.pairs.points_i[0], world.float(), recorded.pairs.confidence_i[0]
    )
    close(found, similarity, EXACT)


def test_the_tree_and_what_it_places(recorded, start):
    assert [list(edge) for edge in start.tree] == recorded.arrays["mst/edges"].tolist()
    assert start.unplaced == ()
    close(scale_of(start.similarities), recorded.arrays["init/pairwise_scale"], EXACT)
    close(start.similarities, recorded.arrays["init/pairwise_sim"][:, :3], EXACT)
    unit = recorded.arrays["init/pairwise_scale"][
        recorded.arrays["in/edges"].tolist().index(list(start.tree[0]))
    ]  # the world of the tree is that of its first pair
    points = recorded.stored("mst/pts3d", start.points / float(unit))
    close(points, recorded.arrays["mst/pts3d"], EXACT)
    firsts = {i for i, _ in start.tree}
    for view in range(recorded.pairs.views):
        bar = EXACT if view in firsts else PLACED
        close(start.world_from_cam[view], recorded.arrays["init/cam2world"][view], bar)
        close(
            start.world_from_cam[view, :3, :3], recorded.arrays["mst/cam2world"][view, :3, :3], bar
        )
    assert recorded.focal_error(start.focals) < 5e-3
    # The published focal lengths: those of the tree, of which the first view's is its own.
    close(recorded.arrays["init/focals"], recorded.arrays["mst/focals"], EXACT)
    first = start.tree[0][0]
    assert float(start.focals[first]) == pytest.approx(
        recorded.arrays["mst/focals"][first], rel=EXACT
    )
    assert (
        recorded.focal_error(start.focals)
        < recorded.focal_error(recorded.arrays["init/focals"]) + 1e-3
    )


def test_every_view_has_its_own_focal_length(recorded, start):
    """Unlike the original's, which takes the pair before in the tree."""
    score = recorded.pairs.score()
    for view, focal in enumerate(start.focals):
        own = [e for e, (i, _) in enumerate(recorded.pairs.edges.tolist()) if i == view]
        best = max(own, key=lambda edge: score[edge])
        assert float(focal) == pytest.approx(recorded.arrays["focal/weiszfeld"][best], rel=EXACT)


def test_the_loss_of_the_start(recorded, start):
    alignment = PairAlignment(recorded.pairs, start, center=INTEGER_PIXELS)
    with torch.no_grad():
        loss = float(alignment())
    name = "own_focal/init_loss" if "own_focal/init_loss" in recorded.arrays else "init/loss"
    assert loss == pytest.approx(float(recorded.arrays[name]), rel=LOSS)
    depth = recorded.stored("init/depth", alignment.log_depth.detach().exp())
    close(depth, recorded.arrays["init/depth"], PLACED)
    # From the published focal lengths, which may be those of the pair before.
    slipped = replace(start, focals=recorded.tensor("init/focals").to(start.focals))
    with torch.no_grad():
        loss = float(PairAlignment(recorded.pairs, slipped, center=INTEGER_PIXELS)())
    assert loss == pytest.approx(float(recorded.arrays["init/loss"]), rel=PLACED)


def test_the_gradient_in_chunks_is_that_of_the_whole(recorded, start, monkeypatch):
    gradients = []
    for chunk in (1, len(recorded.pairs.edges)):
        monkeypatch.setattr("distill3r_core.teachers.pairwise.optimization.EDGES_AT_ONCE", chunk)
        alignment = PairAlignment(recorded.pairs, start)
        alignment()
        gradients.append({name: value.grad for name, value in alignment.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-7)


def test_the_optimum(recorded, aligned):
    own = "own_focal/final_loss" in recorded.arrays
    wanted = float(recorded.arrays["own_focal/final_loss" if own else "final/loss"])
    assert aligned.loss == pytest.approx(wanted, rel=LOSS)
    last = float(recorded.arrays["final/loss_last_iteration"])
    assert last == pytest.approx(float(recorded.arrays["final/loss"]), rel=1e-4)
    close(aligned.scales, recorded.arrays["final/pairwise_scale"], 5e-3)
    if not own:
        close(recorded.stored("final/depth", aligned.depth), recorded.arrays["final/depth"], 2e-2)
    cameras = recorded.arrays["own_focal/cam2world" if own else "final/cam2world"]
    focals = recorded.arrays["own_focal/focals" if own else "final/focals"]
    assert recorded.center_error(aligned.world_from_cam) < 1.5 * recorded.center_error(cameras)
    assert recorded.focal_error(aligned.focals) < 1.5 * recorded.focal_error(focals) + 1e-3
    spread = recorded.facts["accuracy_of_official_result"]["camera_spread"]
    assert recorded.center_error(aligned.world_from_cam) < 0.02 * spread


def test_recorded_points_are_recorded_depth_along_the_rays_of_recorded_cameras(recorded, aligned):
    every = slices(recorded.facts["outputs"]["final/pts3d"]["stored_index"])
    assert every == slices(recorded.facts["outputs"]["final/depth"]["stored_index"])

    def world_points(depth, focals, poses):
        rows, columns = recorded.size
        intrinsics = torch.eye(3, dtype=torch.float64).repeat(recorded.pairs.views, 1, 1)
        intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = torch.as_tensor(focals).double()
        intrinsics[:, :2, 2] = torch.tensor([columns / 2, rows / 2])
        grid = unproject(torch.ones(len(depth), rows, columns).double(), intrinsics, center=0.0)
        local = grid[every] * torch.as_tensor(depth).double()[..., None]
        poses = torch.as_tensor(poses).double()[:, None, None]
        return (poses[..., :3, :3] @ local[..., None])[..., 0] + poses[..., :3, 3]

    arrays, wanted = recorded.arrays, recorded.arrays["final/pts3d"]
    close(
        world_points(arrays["final/depth"], arrays["final/focals"], arrays["final/cam2world"]),
        wanted,
        EXACT,
    )
    if "own_focal/focals" not in arrays:  # the same optimum, in a frame of its own
        found = world_points(
            recorded.stored("final/depth", aligned.depth), aligned.focals, aligned.world_from_cam
        ).flatten(0, 2)
        true = torch.from_numpy(wanted).double().flatten(0, 2)
        away = apply_similarity(fit_similarity(found, true), found) - true
        assert float(away.norm(dim=-1).max()) < PLACED * float(true.norm(dim=-1).max())


def test_confidence_is_taken_from_what_others_see_through(recorded, aligned):
    cleaned = clean_confidence(
        aligned,
        recorded.pairs.view_confidence(),
        recorded.pairs.sizes,
        center=INTEGER_PIXELS,
    )
    found = recorded.stored("final/conf_after_cleaning", cleaned).numpy()
    wanted = recorded.arrays["final/conf_after_cleaning"]
    same = (found == 0) == (wanted == 0)
    assert same.mean() > 0.95  # at the rim of a hidden part the cameras decide
    kept = (found > 0) & (wanted > 0)
    close(found[kept], wanted[kept], 0)


def test_two_views_in_closed_form(recorded):
    pairs = recorded.of([(0, 1), (1, 0)], 2)
    found = place_two(pairs, center=INTEGER_PIXELS)
    close(found.focals, recorded.arrays["pair_viewer/focals"], EXACT)
    cameras = recorded.tensor("pair_viewer/cam2world")
    assert float(rotation_angle(found.world_from_cam, cameras).max()) < 0.5
    close(found.world_from_cam, cameras, PLACED)
    depth = recorded.stored("pair_viewer/depth", found.depth)
    close(depth, recorded.arrays["pair_viewer/depth"], PLACED)
