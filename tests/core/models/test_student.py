"""The student: sizes, lists, batches, heads, numbers of views, precision, memory."""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill3r_core.errors import ConfigError, RequestError
from distill3r_core.models import build_student
from distill3r_core.models.families import preset_spec
from distill3r_core.models.multiview.chunks import head_chunk_of
from distill3r_core.models.multiview.memory import estimate_bytes
from distill3r_core.models.multiview.published import published_forward
from distill3r_core.models.precision import lower_precision
from distill3r_core.models.tokens import chunks
from distill3r_core.models.tokens.chunks import encoder_chunk
from distill3r_core.nn.kernels import sliced
from distill3r_core.types import PointMaps

# What is predicted of every student.
FIELDS = tuple(f.name for f in dataclasses.fields(PointMaps) if not f.name.startswith("log_"))


def maps_of(maps: PointMaps) -> dict[str, torch.Tensor]:
    return {name: getattr(maps, name) for name in FIELDS}


def assert_same(found: PointMaps, wanted: PointMaps, **tolerance: float) -> None:
    torch.testing.assert_close(maps_of(found), maps_of(wanted), **tolerance)


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return build_student("tiny").eval()


@pytest.fixture(autouse=True)
def _no_gradients():
    torch.manual_seed(1)
    with torch.no_grad():
        yield


@settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), views=st.integers(1, 3))
def test_any_multiple_of_14_gives_a_point_for_every_pixel(student, rows, columns, views):
    images = torch.rand(2, views, 3, 14 * rows, 14 * columns)
    with torch.no_grad():
        found, wanted = student(images), published_forward(student, images)
    assert found.points_global.shape == (2, views, 14 * rows, 14 * columns, 3)
    assert_same(found, wanted, rtol=1e-5, atol=1e-5)
    assert (found.confidence_local >= 1).all()


def test_samples_of_a_batch_do_not_see_each_other(student):
    images = torch.rand(3, 2, 3, 28, 42)
    whole = student(images)
    for index in range(3):
        alone = student(images[index : index + 1])
        torch.testing.assert_close(alone.points_global[0], whole.points_global[index])


def test_a_list_of_views_is_the_tensor_of_them(student):
    images = torch.rand(1, 3, 3, 28, 42)
    whole, views = student(images), student(list(images[0]))
    for index, view in enumerate(views):
        assert view.points_global.shape == (1, 28, 42, 3)
        for name in FIELDS:
            torch.testing.assert_close(getattr(view, name)[0], getattr(whole, name)[0, index])


def test_views_of_mixed_sizes_are_the_same_in_the_reference(student):
    sizes = [(28, 42), (42, 28), (28, 42), (14, 56)]
    images = [torch.rand(3, *size) for size in sizes]
    found, wanted = student(images), published_forward(student, images)
    for maps, other, size in zip(found, wanted, sizes, strict=True):
        assert maps.confidence_local.shape == (1, *size)
        assert_same(maps, other, rtol=1e-5, atol=1e-5)


def test_order_of_mixed_sizes_is_kept(student):
    """The local map of a view follows it; only the anchor's place is special."""
    images = [torch.rand(3, 28, 42), torch.rand(3, 42, 28), torch.rand(3, 28, 42)]
    numbers = torch.tensor([[0, 1, 2]])
    plain = student(images, view_numbers=numbers)
    moved = student([images[0], images[2], images[1]], view_numbers=numbers[:, [0, 2, 1]])
    torch.testing.assert_close(moved[1].points_local, plain[2].points_local)
    torch.testing.assert_close(moved[2].points_local, plain[1].points_local)


@pytest.mark.parametrize("head", ["global", "local"])
def test_one_head_alone_says_the_same_and_the_other_is_absent(student, head):
    images = torch.rand(1, 2, 3, 28, 42)
    both, one = student(images), student(images, head=head)
    other = {"global": "local", "local": "global"}[head]
    torch.testing.assert_close(getattr(one, f"points_{head}"), getattr(both, f"points_{head}"))
    assert getattr(one, f"{other}_map") is None
    assert getattr(one, f"points_{other}") is getattr(one, f"confidence_{other}") is None


def test_chunks_slices_and_the_host_change_nothing(student, monkeypatch):
    images = torch.rand(1, 5, 3, 28, 42)
    wanted = student(images)
    monkeypatch.setitem(sliced.SLICE, "cpu", 7)
    assert_same(student(images, head_chunk=2, host=True), wanted)


@pytest.mark.parametrize("sizes", [[(28, 42)] * 5, [(28, 42), (42, 28), (28, 42)]])
@pytest.mark.parametrize("head", ["both", "local"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_a_pass_reports_every_view_block_and_map(student, sizes, head, chunk):
    images, heard = [torch.rand(3, *size) for size in sizes], []
    options = {"head": head, "head_chunk": chunk}
    student(images, **options, on_progress=lambda stretch, count: heard.append((stretch, count)))
    order = list(dict.fromkeys(stretch for stretch, _ in heard))
    assert order == ["encoder", "fusion", "heads"]
    assert all(heard[[name for name, _ in heard].index(name)][1] == 0 for name in order)
    sums = {name: sum(count for other, count in heard if other == name) for name in order}
    maps = len(sizes) * (2 if head == "both" else 1)
    assert sums == {"encoder": len(sizes), "fusion": student.spec.fusion.depth, "heads": maps}
    totals = student.progress_totals(len(sizes), head)
    assert sums == {name: total for name, (total, _) in totals.items()}
    assert chunk is None or all(count <= chunk for name, count in heard if name == "heads")


def test_few_views_at_once_go_through_the_encoder_and_a_head(student, monkeypatch):
    monkeypatch.setitem(chunks.ENCODER_TOKENS, "cpu", 2 * 6)
    monkeypatch.setitem(chunks.HEAD_NUMBERS, "cpu", 2 * 28 * 42 * student.spec.heads.features)
    seen = []

    def see(part, inputs):
        seen.append(len(inputs[0]) if part is student.encoder else len(inputs[0][0]))

    parts = (student.encoder, student.global_head, student.local_head)
    hooks = [part.register_forward_pre_hook(see) for part in parts]
    student(torch.rand(1, 5, 3, 28, 42))
    for hook in hooks:
        hook.remove()
    assert seen == [2, 2, 1] * 3


def test_slices_do_not_write_over_what_was_kept_in_a_lower_precision(monkeypatch):
    student, images = lower_precision(build_student("tiny").eval()), torch.rand(1, 5, 3, 28, 42)
    wanted = student(images)
    monkeypatch.setitem(sliced.SLICE, "cpu", 7)
    assert error_of(student(images), wanted) < 0.01  # products of other sizes round otherwise


def test_random_numbers_of_views_follow_their_generator(student):
    images = torch.rand(1, 4, 3, 14, 28)

    def run(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return student(images, view_codes="random", generator=generator).points_global

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))
    assert not torch.equal(run(3), student(images).points_global)


def test_views_are_numbered_at_random_while_training_only(student):
    images = torch.rand(1, 4, 3, 14, 28)
    trained = copy.deepcopy(student).train()
    torch.manual_seed(5)
    first = trained(images).points_global
    torch.manual_seed(5)
    assert torch.equal(trained(images).points_global, first)
    assert not torch.equal(trained(images).points_global, first)
    assert torch.equal(trained.eval()(images).points_global, student(images).points_global)


@pytest.mark.parametrize("size", [(27, 42), (28, 41), (0, 14)])
def test_other_sizes_are_refused_with_one_that_fits(student, size):
    with pytest.raises(RequestError, match=f"{size[0]}x{size[1]}") as caught:
        student(torch.rand(1, 2, 3, *size))
    assert "fits" in caught.value.hint


def test_a_sample_without_views_is_refused(student):
    for nothing in ([], torch.rand(1, 0, 3, 14, 14)):
        with pytest.raises(RequestError, match="without views"):
            student(nothing)


def test_a_thousand_views_pass_and_one_more_is_refused(student):
    images = torch.rand(1, 1001, 3, 14, 14)
    found = student(images[:, :1000])
    assert found.points_global.shape == (1, 1000, 14, 14, 3)
    assert found.points_global.isfinite().all()
    with pytest.raises(RequestError, match="1001"):
        student(images)


def test_normalization_belongs_to_the_weights(student):
    images = torch.rand(1, 1, 3, 14, 28)
    other = build_student("tiny", normalization="imagenet").eval()
    other.load_state_dict(student.state_dict())
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    same = (images - mean) / deviation / 2 + 0.5
    torch.testing.assert_close(other(images).points_local, student(same).points_local)


def test_the_attention_scale_belongs_to_the_weights(student):
    images = torch.rand(1, 2, 3, 14, 28)
    other = build_student("tiny", attention_scale=1.3).eval()
    other.load_state_dict(student.state_dict())
    found = other(images).points_global
    assert not torch.allclose(found, student(images).points_global, rtol=1e-4)
    torch.testing.assert_close(other.train()(images, view_codes="sequential").points_global, found)


def test_overrides_reach_the_student_and_unknown_ones_are_named():
    assert build_student("tiny", fusion={"depth": 3}).spec.fusion.depth == 3
    with pytest.raises(ConfigError, match=r"fusion\.size"):
        build_student("tiny", fusion={"size": 3})
    with pytest.raises(ConfigError, match="tiny"):
        build_student("tini")


@pytest.mark.parametrize(("preset", "low", "high"), [("tiny", 1.7, 2.3), ("small", 4.5, 5.5)])
def test_presets_have_about_the_size_they_are_described_with(preset, low, high):
    count = sum(p.numel() for p in build_student(preset).parameters())
    assert low <= count / 1e6 <= high


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_an_untrained_student_puts_the_points_in_front_of_the_camera(preset):
    maps = build_student(preset).eval()(torch.rand(1, 2, 3, 28, 42))
    for points in (maps.points_global, maps.points_local):
        torch.testing.assert_close(points[..., 2].mean(), torch.tensor(0.7), rtol=0, atol=0.2)


@pytest.mark.parametrize("recompute", ["none", "heads", "all"])
def test_every_trainable_parameter_gets_the_same_gradient(recompute):
    torch.manual_seed(0)
    student, images = build_student("tiny"), torch.rand(2, 2, 3, 14, 28)
    gradients = []
    with torch.enable_grad():
        for mode in ("none", recompute):
            student.zero_grad()
            maps = student(images, view_codes="sequential", recompute=mode, head_chunk=3)
            sum(value.sum() for value in maps_of(maps).values()).backward()
            gradients.append({name: p.grad for name, p in student.named_parameters()})
    assert all(value is not None for value in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


def error_of(found: PointMaps, exact: PointMaps) -> float:
    """Of all maps together, each relative to its size."""
    errors = [
        (getattr(found, name).float() - getattr(exact, name)).norm() / getattr(exact, name).norm()
        for name in FIELDS
    ]
    return float(torch.stack(errors).square().mean().sqrt())


def test_bfloat16_is_finite_and_no_worse_than_autocast():
    errors = torch.zeros(2)
    for seed in range(4):
        torch.manual_seed(seed)
        student, images = build_student("tiny").eval(), torch.rand(1, 3, 3, 42, 56)
        exact = published_forward(student, images)
        with torch.autocast("cpu", torch.bfloat16):
            plain = published_forward(student, images)
        lowered = lower_precision(student)(images)
        assert all(value.isfinite().all() for value in maps_of(lowered).values())
        assert all(value.dtype == torch.float32 for value in maps_of(lowered).values())
        errors += torch.tensor([error_of(lowered, exact), error_of(plain, exact)])
    assert errors[0] <= errors[1]
    assert errors[1] / 4 < 0.02


def test_lowering_to_float32_changes_nothing_but_rounding():
    student, images = build_student("paper").eval(), torch.rand(1, 2, 3, 28, 42)
    with torch.no_grad():
        for block in student.encoder.blocks:  # far from the tiny factors of a fresh encoder
            block.ls1.gamma.uniform_(0.5, 1.5)
            block.ls2.gamma.uniform_(-1.5, -0.5)
    exact = student(images)
    lowered = lower_precision(student, torch.float32)
    once = lowered(images)
    assert error_of(once, exact) < 1e-5
    assert_same(lower_precision(lowered, torch.float32)(images), once, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_lowered_blocks_are_timms_under_autocast_to_the_bit(dtype):
    torch.manual_seed(0)
    student = build_student("paper", encoder={"depth": 2}, fusion={"depth": 2}).eval()
    factors = torch.tensor([1.0, -2.0, 0.5]).repeat(128)  # powers of two: rounding does not mind
    for block in student.encoder.blocks:
        block.ls1.gamma.copy_(factors)
        block.ls2.gamma.copy_(factors.flip(0))
    theirs = copy.deepcopy(student.encoder.blocks)
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.to(dtype)
    found = wanted = torch.randn(3, 11, 384)
    with torch.autocast("cpu", dtype):
        for block in theirs:
            wanted = block(wanted)
    for block in lower_precision(student, dtype).encoder.blocks:
        found = block(found)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


def test_an_encoder_that_has_inferred_can_be_trained():
    encoder = build_student("paper", encoder={"depth": 1}, fusion={"depth": 1}).encoder
    images = torch.rand(1, 3, 28, 98)
    with torch.inference_mode():
        before = encoder(images)
    with torch.enable_grad():
        after = encoder(images)
        after.square().sum().backward()
    assert torch.equal(after.detach(), before)
    assert encoder.pos_embed.grad.isfinite().all() and encoder.pos_embed.grad.any()


def test_the_fast_path_runs_under_autocast_too():
    student, images = build_student("tiny").eval(), torch.rand(1, 3, 3, 28, 42)
    exact = student(images)
    with torch.autocast("cpu", torch.bfloat16):
        found = student(images)
    assert 0 < error_of(found, exact) < 0.02


def test_chunks_shrink_as_views_grow():
    spec, device = preset_spec("paper"), torch.device("cpu")
    small, large = (head_chunk_of(spec, size, device, views=99) for size in ((70, 98), (378, 518)))
    assert small > large >= 1
    gpu = torch.device("cuda")
    few, many = (head_chunk_of(spec, (378, 518), gpu, views=views) for views in (12, 128))
    assert few == 12 > many  # few views go through at once
    assert encoder_chunk(10**9, device) == 1


def test_the_estimate_grows_with_views_size_and_chunk():
    spec, cpu = preset_spec("paper"), torch.device("cpu")

    def total(views: int, size: tuple[int, int], **options: int) -> int:
        return estimate_bytes(spec, [size] * views, device=cpu, **options).total

    assert total(2, (224, 518)) < total(8, (224, 518))
    assert total(8, (224, 518), head_chunk=1) < total(8, (378, 518), head_chunk=1)
    assert total(8, (224, 518), head_chunk=1) < total(8, (224, 518), head_chunk=8)
    assert total(8, (224, 518), heads=1) < total(8, (224, 518))
    growth = (total(128, (224, 518)) - total(64, (224, 518))) / 64
    assert growth <= 14e6


def test_the_steps_one_after_the_other_are_the_forward_pass_and_its_gradient(student):
    images, numbers = torch.rand(2, 3, 3, 28, 42), torch.tensor([[0, 1, 2]] * 2)
    found = []
    for steps in (False, True):
        student.zero_grad()
        with torch.enable_grad():
            if steps:
                tokens = student.encode(images.flatten(0, 1)).unflatten(0, (2, 3))
                layers = student.fuse(tokens.flatten(1, 2), numbers, [6] * 3)
                rows = [layer.unflatten(1, (3, 6)).flatten(0, 1) for layer in layers]
                points = student.decode(rows, (2, 3), head="local").points.unflatten(0, (2, 3))
            else:
                points = student(images, view_numbers=numbers, head="local").points_local
            points.square().sum().backward()
        found.append((points.detach(), student.fusion.embed.weight.grad.clone()))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    student.zero_grad(set_to_none=True)


def test_a_part_of_another_kind_replaces_the_presets():
    overrides = {"encoder": {"kind": "rotary", "width": 48, "depth": 1, "heads": 4}}
    spec = preset_spec("paper", overrides)
    assert spec.encoder.kind == "rotary" and spec.encoder.stem == "patch"
    assert spec.heads == preset_spec("paper").heads
    assert preset_spec("small", {"encoder": {"depth": 2}}).encoder.width == 192
