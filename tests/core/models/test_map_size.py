"""A sample's size is predicted apart from its shape: neither learns from the other's loss."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill3r_core.losses import LossSettings, Objective
from distill3r_core.losses.loss_term import TermInputs
from distill3r_core.losses.scale import scale_error
from distill3r_core.models import build_student, load_student
from distill3r_core.models.build import build_from_spec
from distill3r_core.models.checkpoint import save_weights
from distill3r_core.models.families import preset_spec
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.multiview.map_size import MapSize, give_size
from distill3r_core.models.multiview.published import published_forward
from distill3r_core.models.multiview.student import MultiviewStudent
from distill3r_core.stages.convert import convert
from distill3r_core.training.step import clip_gradients
from distill3r_core.types import PointMaps, TeacherTargets

SIDE = 28


@pytest.fixture
def student() -> MultiviewStudent:
    """Without a trained size, which is one."""
    built = build_student("tiny", map_size="predicted")
    assert isinstance(built, MultiviewStudent)
    return built.eval()


def sizes(points: Tensor) -> Tensor:
    """Median distance of each view's points."""
    return points.norm(dim=-1).flatten(-2).median(-1).values


def random_maps(views: int) -> tuple[Tensor, ...]:
    """Global and local points and confidences of some views, at any scale."""
    points = [torch.rand(views, 6, 8, 3) * 3 + 0.1 for _ in range(2)]
    return (points[0] * torch.rand(views, 1, 1, 1), points[1], *(p[..., 0] for p in points))


def targets_like(maps: PointMaps, size: Tensor) -> TeacherTargets:
    """Planes in front of every view, as far as each sample's size says."""
    assert maps.points_local is not None and maps.confidence_local is not None
    points = torch.rand(maps.points_local.shape) * 0.1
    points[..., 2] = size.view(-1, 1, 1, 1)
    batch, views = points.shape[:2]
    return TeacherTargets(
        points_local=points,
        confidence_local=torch.ones_like(maps.confidence_local),
        confidence_global=torch.ones_like(maps.confidence_local),
        valid_mask=torch.ones_like(maps.confidence_local, dtype=torch.bool),
        global_from_local=torch.eye(3, 4).expand(batch, views, 3, 4),
    )


def test_an_untrained_student_puts_each_view_at_a_distance_of_one(student):
    with torch.no_grad():
        maps = student(torch.rand(3, 2, 3, SIDE, 2 * SIDE))
    torch.testing.assert_close(sizes(maps.points_local), torch.ones(3, 2))
    torch.testing.assert_close(sizes(maps.points_global[:, 0]), torch.ones(3))
    assert maps.log_size.shape == (3, 2)


def test_views_have_sizes_of_their_own_and_the_common_frame_that_of_the_first():
    torch.manual_seed(0)
    maps = [random_maps(3) for _ in range(2)]
    log_size = torch.randn(2, 3)
    batch = PointMaps(*(torch.stack(parts) for parts in zip(*maps, strict=True)))
    found = give_size(batch, log_size)
    torch.testing.assert_close(sizes(found.points_local), log_size.exp())
    torch.testing.assert_close(sizes(found.points_global[:, 0]), log_size[:, 0].exp())
    torch.testing.assert_close(found.log_resized_local, log_size - sizes(batch.points_local).log())
    factor = sizes(found.points_global) / sizes(batch.points_global)
    torch.testing.assert_close(found.log_resized_global, factor.log())
    # The others keep their size beside the first.
    before, after = sizes(batch.points_global), sizes(found.points_global)
    torch.testing.assert_close(after / after[:, :1], before / before[:, :1])
    for sample, each in enumerate(maps):
        views = [PointMaps(*(part[k, None] for part in each)) for k in range(3)]
        alone = give_size(views, log_size[sample, None])
        for k, view in enumerate(alone):
            torch.testing.assert_close(view.points_local[0], found.points_local[sample, k])
            torch.testing.assert_close(view.points_global[0], found.points_global[sample, k])
            assert view.log_size == log_size[sample, k]


def test_a_list_of_views_is_the_tensor_of_them(student):
    with torch.no_grad():
        student.map_size.weight.normal_()
        images = torch.rand(3, 3, SIDE, SIDE)
        whole, views = student(images[None]), student(list(images))
        mixed = student([images[0], torch.rand(3, SIDE, 2 * SIDE)])
    for k, view in enumerate(views):
        torch.testing.assert_close(view.points_local, whole.points_local[:, k])
        torch.testing.assert_close(view.points_global, whole.points_global[:, k])
    for view in mixed:
        torch.testing.assert_close(sizes(view.points_local), view.log_size.exp())


@pytest.mark.parametrize("head", ["global", "local"])
def test_one_head_alone_has_the_same_size(student, head):
    images = torch.rand(1, 3, 3, SIDE, SIDE)
    with torch.no_grad():
        student.map_size.weight.normal_()
        both, one = student(images), student(images, head=head)
    name = f"points_{head}"
    torch.testing.assert_close(getattr(one, name), getattr(both, name))


def test_the_heads_may_keep_any_size_and_single_values_move_nothing():
    """Maps that are a thousand times as large, or that have a few wild values."""
    torch.manual_seed(0)
    parts = random_maps(3)
    log_size = torch.randn(1, 3)

    def sized(change: Any) -> PointMaps:
        points = [change(part.clone())[None] for part in parts[:2]]
        return give_size(PointMaps(*points, *(part[None] for part in parts[2:])), log_size)

    def wild(points: Tensor) -> Tensor:
        points[:, 0, 0], points[:, 0, 1], points[:, 0, 2] = torch.inf, torch.nan, 1e30
        points[:, 1, :3] = 0.0  # as many on the other side of the median
        return points

    plain, grown, other = sized(lambda points: points), sized(lambda p: 1000 * p), sized(wild)
    for name in ("points_global", "points_local"):
        torch.testing.assert_close(getattr(grown, name), getattr(plain, name))
        kept = (slice(None), slice(None), slice(2, None))
        ratio = getattr(other, name)[kept] / getattr(plain, name)[kept]
        assert ratio.isfinite().all() and (ratio - 1).abs().max() < 0.1


def test_the_fast_pass_is_the_published_one(student):
    with torch.no_grad():
        student.map_size.weight.normal_()
        images = torch.rand(1, 3, 3, SIDE, SIDE)
        found, wanted = student(images), published_forward(student, images)
        host = student(images, host=True)
    for maps in (found, host):
        torch.testing.assert_close(maps.points_local, wanted.points_local, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps.points_global, wanted.points_global, rtol=1e-4, atol=1e-5)


def test_the_term_of_size_trains_the_size_alone_and_the_others_the_rest(student):
    maps = student(torch.rand(2, 2, 3, SIDE, SIDE))
    targets = targets_like(maps, torch.tensor([1.0, 4.0]))
    names, weights = zip(*student.named_parameters(), strict=True)

    def moved(loss: Tensor) -> dict[str, float]:
        found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        return {
            name: 0.0 if gradient is None else float(gradient.abs().max())
            for name, gradient in zip(names, found, strict=True)
        }

    by_size = moved(scale_error(TermInputs(maps, targets)))
    assert {name for name, size in by_size.items() if size > 0} == {
        "map_size.weight",
        "map_size.bias",
    }
    shape = moved(Objective(LossSettings().all_terms)(maps, targets).total)
    taught = {name for name, size in shape.items() if size > 0}
    assert taught and not taught & {"map_size.weight", "map_size.bias"}


def test_the_gradient_of_the_size_is_that_of_scaled_points():
    """As if the points were scaled by it, with gradient, and it stood beside nothing."""
    torch.manual_seed(0)
    parts = [torch.stack([part, part]).double() for part in random_maps(3)]
    log_size = torch.randn(2, 3, dtype=torch.double, requires_grad=True)
    sized = give_size(PointMaps(*(part.clone() for part in parts)), log_size.detach())
    targets = targets_like(sized, torch.tensor([2.0, 3.0]))
    own = scale_error(TermInputs(replace(sized, log_size=log_size), targets))
    change = (log_size - log_size.detach()).exp()[..., None, None, None]
    moved = replace(
        sized,
        points_local=sized.points_local * change,
        points_global=sized.points_global * change[:, :1],
        log_size=None,
    )
    plain = scale_error(TermInputs(moved, targets))
    torch.testing.assert_close(own, plain)
    found, wanted = (torch.autograd.grad(loss, log_size)[0] for loss in (own, plain))
    torch.testing.assert_close(found, wanted)


def test_it_tells_places_of_different_sizes_apart():
    """Two kinds of tokens, one kind twenty times as far away as the other."""
    torch.manual_seed(0)
    kinds = torch.randn(2, 1, 1, 16)
    layer = MapSize(16)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    wanted = torch.tensor([0.5, 10.0]).log()[:, None].expand(2, 4)
    for _ in range(300):
        tokens = (kinds + 0.3 * torch.randn(2, 4, 12, 16)).flatten(1, 2)
        loss = (layer(tokens, [12] * 4) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = (kinds + 0.3 * torch.randn(2, 4, 12, 16)).flatten(1, 2)
    torch.testing.assert_close(layer(new, [10, 14, 12, 12]), wanted, rtol=0, atol=0.2)


def test_a_seed_gives_the_same_student_with_and_without_it():
    states = []
    for size in ("predicted", "free"):
        torch.manual_seed(0)
        states.append((build_student("tiny", map_size=size).state_dict(), torch.rand(1)))
    (with_size, drawn), (without, drawn_too) = states
    assert drawn == drawn_too and with_size.keys() > without.keys()
    assert all(torch.equal(with_size[name], tensor) for name, tensor in without.items())


def test_the_original_gets_the_student_without_its_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = preset_spec("paper", {"map_size": "predicted"})
    student = build_from_spec(spec)
    assert isinstance(student, MultiviewStudent)
    metadata = StudentMetadata(preset="paper", spec=spec, size=(224, 518), fit={}, unit="m")
    save_weights(tmp_path / "own.safetensors", student.state_dict(), metadata)
    report = convert(tmp_path / "own.safetensors", tmp_path / "theirs.ckpt")
    assert ".ckpt holds no unit: lengths count as relative there" in report.notes
    there = load_student(tmp_path / "theirs.ckpt")
    assert there.metadata is not None and there.metadata.unit == "none"
    assert isinstance(there, MultiviewStudent) and there.map_size is None
    kept = student.state_dict()
    for name, tensor in there.state_dict().items():
        torch.testing.assert_close(tensor, kept.pop(name), rtol=0, atol=0)
    assert set(kept) == {"map_size.weight", "map_size.bias"}


def test_its_gradient_is_clipped_by_itself(student):
    """Else a size that is far off would shorten the steps of the shape."""
    for parameter in student.parameters():
        parameter.grad = torch.ones_like(parameter)
    for parameter in student.map_size.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    term = torch.nn.Parameter(torch.zeros(3))
    term.grad = torch.ones(3)
    count = sum(p.numel() for p in student.parameters()) + 3
    apart = sum(p.numel() for p in student.map_size.parameters())
    norms = clip_gradients(student, [term], limit=1.0)
    wanted = [(count - apart) ** 0.5, 100 * apart**0.5]
    torch.testing.assert_close(norms, torch.tensor(wanted))
    torch.testing.assert_close(term.grad, torch.full((3,), wanted[0] ** -1))
    lengths = [p.grad.square().sum() for p in student.map_size.parameters()]
    torch.testing.assert_close(sum(lengths), torch.tensor(1.0))
