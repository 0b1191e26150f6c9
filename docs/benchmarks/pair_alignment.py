"""How well, and at what cost, the global alignment finds cameras from pairs that are nearly true.

    python docs/benchmarks/pair_alignment.py rooms --views 5,10,20 --size 96x128
    python docs/benchmarks/pair_alignment.py SCENE --views 40 --graph swin-3 --json result.json
    python docs/benchmarks/pair_alignment.py rooms --views 5,10,20 --strangers 1

Pairs are made from exact depth and poses: of a rendered room, or of a data set with depth, poses
and calibrated intrinsics. Each pair has a scale of its own, depth errors that are smooth over the
image and larger where the other view does not see, and confidence that falls with them. Pairs
without overlap are wrong in pose, and hardly trusted. Strangers, the last views, overlap with none;
errors are those of the others.
"""

import argparse
import json
import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.data.frame_processing import Processing, process
from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import Scene, scan
from distill3r_core.geometry.cameras import invert_rigid, project, unproject
from distill3r_core.geometry.registration import rotation_angle
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity
from distill3r_core.scenes.paths import arc, pinhole
from distill3r_core.scenes.render import render_depth
from distill3r_core.scenes.scene import build_scene
from distill3r_core.teachers.pairwise.graph import pairs_of
from distill3r_core.teachers.pairwise.optimization import align
from distill3r_core.teachers.pairwise.predictions import PairPredictions, collect
from distill3r_core.teachers.pairwise.tree import place_by_tree

FIELDS_OF_VIEW = (50.0, 62.0, 75.0)  # of a room's cameras in turn, degrees
MIN_OVERLAP = 0.1  # of a view; a network recognizes nothing below
SURFACE = 0.03  # two depths of one surface differ by less, relative
CONFIDENT, DOUBTFUL, WORTHLESS = 6.0, 1.5, 1.02
SMOOTH = (4, 5)  # knots of the depth error over the image


@dataclass(frozen=True)
class TrueViews:
    """Views whose depth and cameras are known; the principal point is the middle of the image."""

    depth: Float[Tensor, "N H W"]  # 0 where it is not known
    intrinsics: Float[Tensor, "N 3 3"]
    world_from_cam: Float[Tensor, "N 4 4"]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.depth.shape[1], self.depth.shape[2]


@dataclass(frozen=True)
class AlignmentResult:
    """Cost of an alignment and its distance from the truth.

    Args:
        rotation_median: Of the relative rotations of all pairs of views, degrees.
        center_error: Root mean square after one similarity, relative to the spread of the centers.
        focal_error: The largest relative error of a focal length.
        point_error: Mean distance of points after one similarity, relative to the mean depth.
        peak_gb: Of the whole process, with what Python and torch take.
    """

    views: int
    rows: int
    columns: int
    graph: str
    strangers: int
    pairs: int
    start_s: float
    align_s: float
    peak_gb: float
    rotation_median: float
    rotation_max: float
    center_error: float
    focal_error: float
    point_error: float
    unplaced: int


def room_views(seed: int, views: int, size: tuple[int, int], *, degrees: float) -> TrueViews:
    """A rendered room, seen by cameras of several focal lengths."""
    scene = build_scene(seed)
    intrinsics = torch.stack(
        [pinhole(size, degrees=FIELDS_OF_VIEW[view % len(FIELDS_OF_VIEW)]) for view in range(views)]
    )
    poses = arc(scene, views, seed=seed, degrees=degrees)
    depth = [render_depth(scene, pose, k, size) for pose, k in zip(poses, intrinsics, strict=True)]
    return TrueViews(torch.stack(depth), intrinsics, poses)


def data_views(root: Path, views: int, size: tuple[int, int]) -> TrueViews:
    """Frames of a data set's first scene, evenly spread; depth of the nearest pixel."""
    scene = next(
        scene
        for dataset in scan(root, "auto")
        for scene in dataset.list_scenes()
        if isinstance(scene, Scene)
    )
    chosen = torch.linspace(0, len(scene.frames) - 1, views).round().int().tolist()
    depth, intrinsics, poses = [], [], []
    for index in chosen:
        frame = process(read_source_frame(scene.frames[index]), Processing())
        if frame.depth is None or frame.world_from_cam is None:
            sys.exit(f"{scene.frames[index].image}: depth and pose are needed")
        stored = torch.from_numpy(frame.depth).float() / (1000 if frame.unit == "mm" else 1)
        resized = torch.nn.functional.interpolate(stored[None, None], size, mode="nearest-exact")
        scale = torch.tensor(
            [size[1] / stored.shape[1], size[0] / stored.shape[0], 1.0], dtype=torch.float64
        )
        depth.append(resized[0, 0])
        intrinsics.append((torch.diag(scale) @ torch.from_numpy(frame.intrinsics)).float())
        pose = torch.from_numpy(frame.world_from_cam).float().clone()
        pose[:3, 3] /= 1000 if frame.unit == "mm" else 1
        poses.append(pose)
    return TrueViews(torch.stack(depth), torch.stack(intrinsics), torch.stack(poses))


def predict_pairs(
    true: TrueViews,
    edges: Sequence[tuple[int, int]],
    *,
    noise: float,
    seed: int,
    strangers: Sequence[int] = (),
) -> PairPredictions:
    """What a good pairwise network would say of these views.

    Args:
        noise: Standard deviation of the smooth relative error of depth where both views see; four
            times as much elsewhere. Poses of pairs are off by a third of it, in radians and in
            units of the mean depth.
        strangers: Views that overlap with no other one.
    """
    draw = torch.Generator().manual_seed(seed)
    maps = []
    for i, j in edges:
        seen_i, seen_j = seen_in(true, i, j), seen_in(true, j, i)
        overlaps = min(seen_i.float().mean(), seen_j.float().mean()) >= MIN_OVERLAP
        overlaps = bool(overlaps) and not {i, j} & set(strangers)
        own = _noisy_points(true, i, seen_i, noise, draw)
        other = _noisy_points(true, j, seen_j, noise, draw)
        relative = invert_rigid(true.world_from_cam[i]) @ true.world_from_cam[j]
        relative = _shaken(relative, noise / 3 if overlaps else 0.7, own[..., 2].mean(), draw)
        carried = other @ relative[:3, :3].mT + relative[:3, 3]
        unit = math.exp(0.5 * float(torch.randn((), generator=draw)))
        trust = [
            torch.where(seen, CONFIDENT, DOUBTFUL) if overlaps else torch.full(true.size, WORTHLESS)
            for seen in (seen_i, seen_j)
        ]
        for view, confidence in zip((i, j), trust, strict=True):
            confidence[true.depth[view] <= 0] = 1.0
        maps.append((unit * own, unit * carried, *trust))
    return collect(edges, [true.size] * len(true.depth), maps)


def seen_in(true: TrueViews, view: int, other: int) -> Bool[Tensor, "H W"]:
    """The pixels of a view whose surface the other view sees too."""
    points = unproject(true.depth[view], true.intrinsics[view])
    moved = invert_rigid(true.world_from_cam[other]) @ true.world_from_cam[view]
    points = points @ moved[:3, :3].mT + moved[:3, 3]
    column, row = project(points, true.intrinsics[other]).unbind(-1)
    rows, columns = true.size
    inside = (points[..., 2] > 0) & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    row = row.nan_to_num(0).long().clamp(0, rows - 1)
    column = column.nan_to_num(0).long().clamp(0, columns - 1)
    there = true.depth[other][row, column]
    same = (points[..., 2] - there).abs() < SURFACE * there
    return inside & same & (true.depth[view] > 0)


def _noisy_points(
    true: TrueViews, view: int, seen: Bool[Tensor, "H W"], noise: float, draw: torch.Generator
) -> Float[Tensor, "H W 3"]:
    """Points of a view in its own camera; where depth is not known, at the mean depth."""
    depth = true.depth[view]
    known = depth > 0
    depth = torch.where(known, depth, depth[known].mean())
    knots = torch.randn(1, 1, *SMOOTH, generator=draw)
    error = torch.nn.functional.interpolate(knots, true.size, mode="bicubic", align_corners=True)[
        0, 0
    ]
    spread = torch.where(seen, noise, 4 * noise)
    grain = noise / 4 * torch.randn(true.size, generator=draw)
    return unproject(depth * (spread * error + grain).exp(), true.intrinsics[view])


def _shaken(
    pose: Float[Tensor, "4 4"], amount: float, depth: Tensor, draw: torch.Generator
) -> Float[Tensor, "4 4"]:
    """A pose with a random turn (radians) and shift (mean depths)."""
    x, y, z = (amount * torch.randn(3, generator=draw)).tolist()
    turn = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    shaken = pose.clone()
    shaken[:3, :3] = torch.linalg.matrix_exp(turn) @ pose[:3, :3]
    shaken[:3, 3] += amount * depth * torch.randn(3, generator=draw)
    return shaken


def measure(
    true: TrueViews, pairs: PairPredictions, *, graph: str, steps: int, skip: Sequence[int] = ()
) -> AlignmentResult:
    """Align, and compare with the truth.

    Args:
        skip: Views that nothing can place: they are left out of the errors.
    """
    began = time.perf_counter()
    start = place_by_tree(pairs)
    placed = time.perf_counter()
    aligned = align(pairs, start, steps=steps)
    ended = time.perf_counter()
    kept = [view for view in range(pairs.views) if view not in skip]
    found, wanted = aligned.world_from_cam[kept], true.world_from_cam[kept]
    one, two = torch.tril_indices(len(kept), len(kept), offset=-1)
    angles = rotation_angle(
        invert_rigid(found[one]) @ found[two], invert_rigid(wanted[one]) @ wanted[two]
    )
    intrinsics = true.intrinsics[kept].clone()
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = aligned.focals[kept]
    valid = true.depth[kept] > 0
    depth = aligned.depth.reshape(pairs.views, *true.size)[kept]
    points = _world_points(depth, intrinsics, found)[valid]
    truth = _world_points(true.depth[kept], true.intrinsics[kept], wanted)[valid]
    similarity = fit_similarity(points, truth)
    centers = apply_similarity(fit_similarity(found[:, :3, 3], wanted[:, :3, 3]), found[:, :3, 3])
    spread = (wanted[:, :3, 3] - wanted[:, :3, 3].mean(0)).square().sum(1).mean().sqrt()
    off = (centers - wanted[:, :3, 3]).square().sum(1).mean().sqrt()
    focals = true.intrinsics[kept, 0, 0]
    distance = (apply_similarity(similarity, points) - truth).norm(dim=-1).mean()
    return AlignmentResult(
        views=pairs.views,
        rows=true.size[0],
        columns=true.size[1],
        graph=graph,
        strangers=len(skip),
        pairs=len(pairs.edges),
        start_s=round(placed - began, 2),
        align_s=round(ended - placed, 2),
        peak_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        rotation_median=round(float(angles.median()), 3),
        rotation_max=round(float(angles.max()), 3),
        center_error=round(float(off / spread), 4),
        focal_error=round(float(((aligned.focals[kept] - focals) / focals).abs().max()), 4),
        point_error=round(float(distance / true.depth[kept][valid].mean()), 4),
        unplaced=len(aligned.unplaced),
    )


def _world_points(
    depth: Float[Tensor, "N H W"],
    intrinsics: Float[Tensor, "N 3 3"],
    poses: Float[Tensor, "N 4 4"],
) -> Float[Tensor, "N H W 3"]:
    local = unproject(depth, intrinsics)
    return local @ poses[:, None, :3, :3].mT + poses[:, None, None, :3, 3]


def main() -> None:
    """Measure every number of views, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description="Global alignment of pairs against the truth.")
    parser.add_argument("source", help='"rooms", or a folder with depth, poses and intrinsics')
    parser.add_argument("--views", default="5,10,20", help="numbers of views, with commas")
    parser.add_argument("--size", default="96x128", help="rows x columns")
    parser.add_argument("--graph", default="complete")
    parser.add_argument("--strangers", type=int, default=0, help="views that overlap with none")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--noise", type=float, default=0.02, help="relative error of depth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    rows, columns = (int(side) for side in args.size.split("x"))
    results = []
    for views in (int(count) for count in args.views.split(",")):
        if args.source == "rooms":
            true = room_views(args.seed, views, (rows, columns), degrees=69.0)
        else:
            true = data_views(Path(args.source), views, (rows, columns))
        strangers = range(views - args.strangers, views)
        pairs = predict_pairs(
            true,
            pairs_of(views, args.graph),
            noise=args.noise,
            seed=args.seed,
            strangers=strangers,
        )
        result = measure(true, pairs, graph=args.graph, steps=args.steps, skip=strangers)
        results.append(result)
        print(
            f"{views} views {rows}x{columns} {args.graph}, {result.pairs} pairs: start "
            f"{result.start_s} s, {args.steps} steps {result.align_s} s, {result.peak_gb} GB; "
            f"rotation {result.rotation_median} (largest {result.rotation_max}) degrees, centers "
            f"{100 * result.center_error:.1f} %, focal {100 * result.focal_error:.1f} %, points "
            f"{100 * result.point_error:.1f} % of the depth, {result.unplaced} without a pose",
            flush=True,
        )
    if args.json is not None:
        content = {**vars(args), "json": str(args.json), "results": [asdict(r) for r in results]}
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
