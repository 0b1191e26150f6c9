"""The student on a GPU: the same maps as on a CPU, in about the memory that is estimated."""

from functools import partial

import pytest
import recorded
import torch
from torch.nn.functional import interpolate

from distill3r_core.models import build_student
from distill3r_core.models.multiview.memory import estimate_bytes
from distill3r_core.models.multiview.original_checkpoint import PREFIX, from_original
from distill3r_core.models.multiview.published import published_forward
from distill3r_core.models.multiview.spec import RELEASED_ATTENTION_SCALE
from distill3r_core.models.precision import lower_precision
from distill3r_core.models.student import Student
from distill3r_core.nn.kernels import fused

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

EXACT = 1e-4  # largest difference over largest value, in float32
INPUTS = 4
SCATTER = 1.05  # between two roundings of the same size, as on the CPU
KINDS = ("points_global", "points_local", "confidence_global", "confidence_local")


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch):
    """By default cuDNN rounds the inputs of float32 convolutions to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def recorded_student(golden_dir):
    """The student with the recorded weights, whose outputs are large; on the CPU."""
    keys = recorded.load_json(golden_dir, "distill3r_student.keys")
    seed = recorded.load_json(golden_dir, "distill3r_student")["seed"]
    names = [(name.removeprefix(PREFIX), shape) for name, shape in keys["tensors"]]
    state = recorded.weights(recorded.drawing(golden_dir), names, seed)

    def build() -> Student:
        student = build_student(
            "paper", normalization="unit", attention_scale=RELEASED_ATTENTION_SCALE
        )
        student.load_state_dict(from_original(state))
        return student.eval()

    return build


def pictures(seed: int, *, views: int = 3, size: tuple[int, int] = (42, 70)) -> torch.Tensor:
    return torch.rand(1, views, 3, *size, generator=torch.Generator().manual_seed(seed))


def logarithms(maps: object) -> torch.Tensor:
    """What a head says before it is exponentiated."""
    values = [getattr(maps, kind).cpu() for kind in KINDS]
    points = [value.norm(dim=-1).log1p() for value in values[:2]]
    return torch.stack([*points, *((value - 1).clamp(min=1e-6).log() for value in values[2:])])


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@torch.inference_mode()
def test_maps_in_float32_are_those_of_the_cpu(recorded_student):
    student, images = recorded_student(), pictures(0)
    exact = published_forward(student, images)
    student.cuda()
    passes = [student, partial(student, head_chunk=1), partial(student, host=True)]
    for run in (*passes, partial(published_forward, student)):
        found = run(images.cuda())
        for kind in KINDS:
            ours, theirs = getattr(found, kind).cpu(), getattr(exact, kind)
            assert (ours - theirs).abs().max() < EXACT * theirs.abs().max(), (kind, run)


@torch.inference_mode()
def test_the_fused_kernels_change_nothing_but_rounding(recorded_student, monkeypatch):
    student, images = recorded_student().cuda(), pictures(1, size=(98, 126)).cuda()
    assert fused.kernels_work()
    found = student(images)
    monkeypatch.setattr(fused, "kernels_work", lambda: False)
    plain = student(images)
    for kind in KINDS:
        ours, theirs = getattr(found, kind), getattr(plain, kind)
        assert (ours - theirs).abs().max() < EXACT * theirs.abs().max(), kind


def test_the_upsampling_has_torchs_gradient():
    from distill3r_core.nn.kernels.fused_kernels import Upsampled

    for dtype, bar in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        x = torch.randn(3, 128, 27, 37, device="cuda", dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        exact = x.detach().double().requires_grad_()
        wanted = interpolate(exact, (48, 65), mode="bilinear", align_corners=True)
        found = Upsampled.apply(x, (48, 65))
        above = torch.randn_like(found)
        (ours,) = torch.autograd.grad(found, x, above)
        (theirs,) = torch.autograd.grad(wanted, exact, above.double())
        assert error(found.double(), wanted) < bar
        assert error(ours.double(), theirs) < bar


@torch.inference_mode()
def test_views_of_mixed_sizes_come_from_the_host_and_go_back_to_it(recorded_student):
    student = recorded_student()
    views = [
        pictures(seed, views=1, size=size)[0, 0]
        for seed, size in enumerate([(42, 70), (70, 42), (42, 70)])
    ]
    exact = student(views)
    found = student.cuda()(views, host=True)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.points_global.device.type == "cpu"
        difference = (ours.points_global - theirs.points_global).abs().max()
        assert difference < EXACT * theirs.points_global.abs().max()


@torch.inference_mode()
def test_bfloat16_is_finite_and_its_error_is_no_larger_than_that_of_autocast(
    recorded_student, capsys
):
    inputs = [pictures(seed) for seed in range(INPUTS)]
    student = recorded_student()
    exact = [logarithms(published_forward(student, images)) for images in inputs]
    student.cuda()
    with torch.autocast("cuda", torch.bfloat16):
        plain = [logarithms(published_forward(student, images.cuda())) for images in inputs]
    lower_precision(student)
    lowered = [logarithms(student(images.cuda())) for images in inputs]
    assert all(maps.isfinite().all() for maps in lowered)
    own, autocast = (sum(map(error, found, exact)) / INPUTS for found in (lowered, plain))
    with capsys.disabled():
        print(f"\nbfloat16 against float32 on the CPU: {own:.2e}, autocast {autocast:.2e}")
    assert own <= SCATTER * autocast


@torch.inference_mode()
@pytest.mark.parametrize("views", [4, 40])
def test_a_pass_takes_about_the_memory_that_is_estimated(views):
    student = lower_precision(build_student("paper").eval().cuda())
    size, device = (224, 518), torch.device("cuda")
    images = torch.rand(1, views, 3, *size, device="cuda")
    student(images)  # kernels' own scratch is there from now on
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    student(images)
    taken = torch.cuda.max_memory_allocated() - before
    estimate = estimate_bytes(student.spec, [size] * views, device=device, dtype=torch.bfloat16)
    wanted = estimate.total - estimate.images
    assert 0.6 * wanted < taken < 1.1 * wanted, (taken / 1e6, wanted / 1e6)
