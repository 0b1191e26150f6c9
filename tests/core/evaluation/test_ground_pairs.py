"""Structure of depth, agreement of the two maps, and VCRE of the lunar protocol."""

import math
from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.metric_record import Comparison
from distill3r_core.evaluation.metrics import METRICS
from distill3r_core.evaluation.predictions import maps_of
from distill3r_core.evaluation.terrain.ground_depth import profile_error, structural_similarity
from distill3r_core.evaluation.terrain.pair_metrics import read_at, seen_again
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.cameras import unproject

SIZE = (40, 48)
FOCAL = 40.0
K = torch.tensor([[FOCAL, 0, SIZE[1] / 2], [0, FOCAL, SIZE[0] / 2], [0, 0, 1.0]])


def slow_ssim(found: Tensor, wanted: Tensor, mask: Tensor) -> float:
    """SSIM window by window, by its formula."""
    span = float(wanted[mask].max() - wanted[mask].min())
    lowest = float(wanted[mask].min())
    across = torch.arange(-5.0, 6.0, dtype=torch.float64)
    bell = torch.exp(-(across[:, None] ** 2 + across**2) / (2 * 1.5**2))
    bell = bell / bell.sum()
    values = []
    for row in range(len(mask) - 10):
        for column in range(mask.shape[1] - 10):
            part = slice(row, row + 11), slice(column, column + 11)
            if not mask[part].all():
                continue
            a, b = found[part] - lowest, wanted[part] - lowest
            mean_a, mean_b = (bell * a).sum(), (bell * b).sum()
            var_a = (bell * (a - mean_a) ** 2).sum()
            var_b = (bell * (b - mean_b) ** 2).sum()
            both = (bell * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
            values.append(
                float(
                    (2 * mean_a * mean_b + c1) * (2 * both + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )
            )  # fmt: skip
    return sum(values) / len(values)


@pytest.mark.parametrize("seed", range(3))
def test_ssim_is_that_of_its_formula_window_by_window(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    wanted = 20 + torch.randn(16, 19, generator=generator, dtype=torch.float64)
    found = wanted + 0.5 * torch.randn(16, 19, generator=generator, dtype=torch.float64)
    mask = torch.ones(16, 19, dtype=torch.bool)
    mask[0, 3] = False
    found[0, 3] = math.nan  # what does not count may be anything
    ssim = structural_similarity(found, wanted, mask)
    assert ssim == pytest.approx(slow_ssim(found, wanted, mask), abs=1e-9)
    assert structural_similarity(wanted, wanted, mask) == pytest.approx(1)


def test_ssim_needs_a_window_of_valid_pixels_and_depth_that_varies() -> None:
    wanted = torch.rand(11, 11, dtype=torch.float64)
    mask = torch.ones(11, 11, dtype=torch.bool)
    assert structural_similarity(wanted, wanted, mask) == pytest.approx(1)
    assert structural_similarity(wanted[:10], wanted[:10], mask[:10]) is None
    assert structural_similarity(torch.ones_like(wanted), torch.ones_like(wanted), mask) is None
    mask[5, 5] = False
    assert structural_similarity(wanted, wanted, mask) is None


def test_the_profile_is_that_of_the_middle_row() -> None:
    found, wanted = torch.zeros(5, 4), torch.zeros(5, 4)
    found[2] = torch.tensor([1.0, 3.0, 100.0, -2.0])
    found[1] = 7
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[2, 2] = False
    assert profile_error(found, wanted, mask) == pytest.approx(2)
    mask[2] = False
    assert profile_error(found, wanted, mask) is None


def test_reading_between_pixels_is_exact_on_a_plane() -> None:
    rows, columns = torch.meshgrid(torch.arange(6.0) + 0.5, torch.arange(8.0) + 0.5, indexing="ij")
    plane = (2 * columns - 3 * rows + 1)[..., None]
    places = torch.tensor([[[0.5, 0.5], [3.25, 2.75], [7.5, 5.5]]])
    wanted = 2 * places[..., 0] - 3 * places[..., 1] + 1
    torch.testing.assert_close(read_at(plane, places)[..., 0], wanted)


def level_pair(shift: float, height: float = 20.0) -> Truth:
    """Two cameras over level ground, the second `shift` meters to the right."""
    depth = torch.full((2, *SIZE), height)
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    poses[1, 0, 3] = shift
    intrinsics = K.expand(2, 3, 3)
    return Truth(
        name="pair",
        world="pair",
        view_names=("a", "b"),
        views=(),
        points=unproject(depth, intrinsics),
        mask=torch.ones(2, *SIZE, dtype=torch.bool),
        intrinsics=intrinsics,
        poses=poses,
        unit="m",
        contents=(),
    )


def placed(truth: Truth, *, unit: float, sizes: tuple[float, float]) -> Float[Tensor, "2 3 4"]:
    """The true poses in another unit, for maps that are so many times too small."""
    assert truth.poses is not None
    similarities = truth.poses[:, :3].float()
    similarities[:, :, 3] *= unit
    similarities[:, :, :3] *= torch.tensor(sizes)[:, None, None]
    return similarities


def measured(
    name: str,
    truth: Truth,
    points: Float[Tensor, "N H W 3"],
    places: Float[Tensor, "N 3 4"],
) -> float | None:
    maps = replace(maps_of(points, truth, poses=None), global_from_local=places)
    # The other head says nothing here: a baseline's poses carry the maps, too.
    elsewhere = replace(maps, points_global=tuple(7 * points))
    found, same = (METRICS[name].measure(Comparison(truth, it, ())) for it in (maps, elsewhere))
    assert str(found) == str(same)
    return None if found is None else METRICS[name].within(found)


def test_what_both_see_is_what_the_shift_leaves_in_the_image() -> None:
    shift = 4.0  # 8 of 48 pixels
    again, places = seen_again(level_pair(shift))
    columns = torch.arange(SIZE[1]) + 0.5 - 8
    assert (again == (columns >= 0.5 - 1e-6).expand(SIZE)).all()
    torch.testing.assert_close(places[0, 8:, 0], columns[8:].double(), rtol=0, atol=1e-4)
    hidden = level_pair(shift)
    nearer = torch.full(SIZE, 10.0)
    points = torch.stack([hidden.points[0], unproject(nearer, K)])
    assert not seen_again(replace(hidden, points=points))[0].any()


@pytest.mark.parametrize("unit", [1.0, 0.1])
@pytest.mark.parametrize("sizes", [(1.0, 1.0), (5.0, 5.0), (2.0, 0.5)])
def test_the_truth_in_any_unit_agrees_with_itself(unit: float, sizes: tuple[float, float]) -> None:
    # Maps may have another unit than poses, and each view its own: similarities carry them.
    truth = level_pair(3.0)
    places = placed(truth, unit=unit, sizes=sizes)
    points = truth.points * unit / torch.tensor(sizes)[:, None, None, None]
    for name in ("overlap_distance", "vcre"):
        assert measured(name, truth, points, places) == pytest.approx(0, abs=1e-4), name


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (0.2, 0.2), (2.0, 0.5)])
def test_a_baseline_that_is_a_meter_too_long_is_seen_in_both(sizes: tuple[float, float]) -> None:
    truth = level_pair(3.0)
    places = placed(truth, unit=1.0, sizes=sizes)
    places[1, 0, 3] = 4.0
    points = truth.points / torch.tensor(sizes)[:, None, None, None]
    # Right maps, a meter apart; at 20 m a meter is two pixels.
    found = measured("overlap_distance", truth, points, places)
    assert found == pytest.approx(1, abs=1e-4)
    assert measured("vcre", truth, points, places) == pytest.approx(FOCAL / 20, abs=1e-4)


def test_what_does_not_count_may_be_anything_and_what_counts_may_not() -> None:
    truth = level_pair(4.0)  # whole pixels: places are beside the invalid one, none between
    truth.mask[1, 7, 9] = False
    points = truth.points.clone()
    points[1, 7, 9] = math.nan
    places = placed(truth, unit=1.0, sizes=(1.0, 1.0))
    for name in ("overlap_distance", "vcre"):
        assert measured(name, truth, points, places) == pytest.approx(0, abs=1e-4), name
        for wrong in (math.nan, math.inf):
            broken = points.clone()
            broken[0, 3, 20] = wrong
            found = measured(name, truth, broken, places)
            assert found is not None and not math.isfinite(found), name


def test_a_pose_that_turns_its_back_is_as_wrong_as_the_image_is_wide() -> None:
    truth = level_pair(3.0)
    places = placed(truth, unit=1.0, sizes=(1.0, 1.0))
    places[1, :, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    found = measured("vcre", truth, truth.points, places)
    assert found == pytest.approx(math.hypot(*SIZE))


def test_views_without_poses_have_neither() -> None:
    truth = level_pair(3.0)
    places = placed(truth, unit=1.0, sizes=(1.0, 1.0))
    without = replace(truth, poses=None)
    for name in ("overlap_distance", "vcre"):
        assert measured(name, without, truth.points, places) is None
