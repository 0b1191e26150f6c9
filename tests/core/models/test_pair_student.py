"""Pair students: sizes, published parameter counts, pairs of a sample, batches, precision."""

import copy
import dataclasses

import pytest
import torch

from distill3r_core.errors import ConfigError, RequestError
from distill3r_core.models import build_student
from distill3r_core.models.build import build_from_spec
from distill3r_core.models.families import family_of, preset_spec
from distill3r_core.models.pairs.published import published_pairs
from distill3r_core.models.precision import lower_precision
from distill3r_core.types import PointMaps

# What is predicted of every student.
FIELDS = tuple(f.name for f in dataclasses.fields(PointMaps) if not f.name.startswith("log_"))
# FAMILIES 1: parameters without descriptors and unread weights.
PUBLISHED = {
    "lunar-s1": 72_299_312,
    "lunar-s2": 93_702_280,
    "lunar-s3": 66_380_680,
    "lunar-s4": 77_231_176,
}
DESCRIPTORS = {"lunar-s1": 60_838_400, "lunar-s3": 28_328_448}
# With both: what the paper counts. S1's trunk goes on to stride 32, which is computed and dropped.
TOTALS = {
    "lunar-s1": 135_712_440,
    "lunar-s2": 154_935_944,
    "lunar-s3": 94_906_760,
    "lunar-s4": 138_464_840,
}
UNREAD = {512: 395_264, 256: 197_632}  # patch embedding, mask token, norm of the encoder
BEHIND_STRIDE_16 = 2_971_952 - 792_488


def parameters_of(preset: str, **overrides) -> int:
    with torch.device("meta"):
        student = build_from_spec(preset_spec(preset, overrides))
    return sum(parameter.numel() for parameter in student.parameters())


@pytest.mark.parametrize(("preset", "published"), PUBLISHED.items())
def test_a_lunar_student_has_the_published_parameters(preset, published):
    assert parameters_of(preset) == pytest.approx(published, rel=1e-3)


@pytest.mark.parametrize(("preset", "descriptors"), DESCRIPTORS.items())
def test_descriptor_branches_are_there_on_request(preset, descriptors):
    added = parameters_of(preset, descriptors=True) - parameters_of(preset)
    assert added == descriptors


@pytest.mark.parametrize(("preset", "total"), TOTALS.items())
def test_descriptors_and_unread_weights_make_up_the_published_total(preset, total):
    spec = preset_spec(preset)
    ours = parameters_of(preset, descriptors=True) + UNREAD[spec.decoder.width]
    if spec.encoder.kind == "cnn":
        ours += BEHIND_STRIDE_16
    assert ours == pytest.approx(total, rel=1e-3)


def test_without_unread_weights_only_the_spare_units_of_the_heads_are_gone():
    heads = preset_spec("lunar-s3").as_plain()["heads"]
    lean = parameters_of("lunar-s3", heads={**heads, "spare_parameters": False})
    features = heads["features"]
    unit = 2 * (9 * features**2 + features)
    assert parameters_of("lunar-s3") - lean == 2 * unit


def maps_of(maps: PointMaps) -> dict[str, torch.Tensor]:
    return {name: getattr(maps, name) for name in FIELDS}


def assert_same(found: PointMaps, wanted: PointMaps, **tolerance: float) -> None:
    torch.testing.assert_close(maps_of(found), maps_of(wanted), **tolerance)


ENCODERS = {
    "vit": {},
    "cnn": {"encoder": {"kind": "cnn"}},
    "dinov2": {"encoder": {"kind": "vit", "width": 32, "depth": 1, "heads": 2, "kernel": 14}},
    "croco": {"encoder": {"kind": "croco", "width": 32, "depth": 1, "heads": 2}, "adapter": False},
}


def built(**overrides):
    torch.manual_seed(0)
    return build_student("pair-tiny", **overrides).eval()


@pytest.fixture(scope="module")
def student():
    return built()


@pytest.fixture(autouse=True)
def _no_gradients():
    torch.manual_seed(1)
    with torch.no_grad():
        yield


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("views", [1, 2, 4])
def test_all_encoders_give_what_one_pair_after_the_other_gives(encoder, views):
    student, images = built(**ENCODERS[encoder]), torch.rand(2, views, 3, 32, 48)
    found = student(images)
    assert_same(found, published_pairs(student, images), rtol=1e-4, atol=1e-4)
    assert (found.confidence_local >= 1).all()
    assert found.points_global.shape == (2, views, 32, 48, 3)


def test_the_maps_of_two_views_are_those_of_both_orders(student):
    one, two = torch.rand(2, 1, 1, 3, 32, 48)
    straight, turned = student(torch.cat([one, two], 1)), student(torch.cat([two, one], 1))
    torch.testing.assert_close(straight.points_local[:, 1], turned.points_local[:, 0])
    torch.testing.assert_close(turned.points_local[:, 1], straight.points_local[:, 0])
    torch.testing.assert_close(straight.points_global[:, 0], straight.points_local[:, 0])


def test_views_behind_the_anchor_do_not_see_each_other(student):
    images = torch.rand(1, 4, 3, 32, 48)
    whole, swapped = student(images), student(images[:, [0, 2, 1, 3]])
    torch.testing.assert_close(whole.points_local[:, [0, 2, 1, 3]], swapped.points_local)


def test_pairs_of_one_sample_share_the_scale_of_the_surest(student):
    """Each pair alone says the same of its second view, up to the scale of the anchor's map."""
    images = torch.rand(1, 4, 3, 32, 48)
    whole = student(images)
    own = whole.points_global[0, 0].norm(dim=-1)
    for view in (1, 2, 3):
        pair = student(images[:, [0, view]])
        ratio = (own / pair.points_global[0, 0].norm(dim=-1)).median()
        factor = whole.points_global[0, view] / pair.points_global[0, 1]
        assert factor.std() < 1e-3 * factor.mean()
        assert factor.mean() == pytest.approx(float(ratio), rel=0.05)


def test_samples_of_a_batch_do_not_see_each_other(student):
    images = torch.rand(3, 3, 3, 32, 48)
    whole = student(images)
    for index in range(3):
        alone = student(images[index : index + 1])
        torch.testing.assert_close(
            alone.points_global[0], whole.points_global[index], rtol=1e-4, atol=1e-5
        )


def test_views_of_mixed_sizes_are_the_same_in_the_reference(student):
    sizes = [(32, 48), (48, 32), (32, 48), (16, 64)]
    images = [torch.rand(3, *size) for size in sizes]
    found, wanted = student(images), published_pairs(student, images)
    for maps, other, size in zip(found, wanted, sizes, strict=True):
        assert maps.confidence_local.shape == (1, *size)
        assert_same(maps, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["global", "local"])
@pytest.mark.parametrize("views", [1, 3])
def test_one_kind_of_maps_alone_says_the_same(student, head, views):
    images = torch.rand(1, views, 3, 32, 48)
    both, one = student(images), student(images, head=head)
    other = {"global": "local", "local": "global"}[head]
    torch.testing.assert_close(getattr(one, f"points_{head}"), getattr(both, f"points_{head}"))
    assert getattr(one, f"{other}_map") is None


def test_chunks_and_the_host_change_nothing(student):
    images = torch.rand(1, 5, 3, 32, 48)
    assert_same(student(images, head_chunk=2, host=True), student(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recompute", ["none", "heads", "all"])
def test_what_is_computed_again_changes_no_gradient(student, recompute):
    images, gradients = torch.rand(2, 2, 3, 32, 48), []
    for mode in ("none", recompute):
        trained = copy.deepcopy(student)
        with torch.enable_grad():
            maps = trained(images, recompute=mode, head_chunk=1)
            sum(values.sum() for values in maps_of(maps).values()).backward()
        gradients.append({n: p.grad for n, p in trained.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["both", "global", "local"])
@pytest.mark.parametrize("views", [1, 2, 5])
def test_a_pass_reports_every_view_pair_and_map(student, head, views):
    heard = []
    student(
        [torch.rand(3, 32, 48) for _ in range(views)],
        head=head,
        on_progress=lambda stretch, count: heard.append((stretch, count)),
    )
    order = list(dict.fromkeys(stretch for stretch, _ in heard))
    sums = {name: sum(count for other, count in heard if other == name) for name in order}
    totals = student.progress_totals(views, head)
    assert sums == {name: total for name, (total, _) in totals.items()}


@pytest.mark.parametrize("encoder", ["vit", "cnn"])
def test_a_lower_precision_stays_close(encoder):
    student, images = built(**ENCODERS[encoder]), torch.rand(1, 3, 3, 64, 96)
    wanted = student(images)
    found = lower_precision(student)(images)
    assert found.points_global.dtype == torch.float32
    error = (found.points_global - wanted.points_global).norm() / wanted.points_global.norm()
    assert error < 0.03


@pytest.mark.parametrize("size", [(28, 48), (32, 42), (0, 16)])
def test_other_sizes_than_multiples_of_16_are_refused(student, size):
    with pytest.raises(RequestError, match="multiples of 16"):
        student(torch.rand(1, 2, 3, *size))


def test_heads_that_do_not_divide_a_quarter_are_refused():
    with pytest.raises(ConfigError, match="decoder"):
        preset_spec("pair-tiny", {"decoder": {"width": 128, "depth": 4, "heads": 3}})


def test_a_record_of_another_family_is_not_disturbed():
    assert family_of(preset_spec("tiny")).name == "multiview"
    assert family_of(preset_spec("lunar-s2")).multiple(preset_spec("lunar-s2")) == 16
