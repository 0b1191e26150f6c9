"""Training and inference on a GPU: gradients, a full memory, the whole route."""

import json

import pytest
import torch
from small_caches import made_sample, write_cache

from distill3r_core import config
from distill3r_core.data.loading.batches import Batch, Draw, map_targets
from distill3r_core.losses import DistillationLoss
from distill3r_core.models import build_student
from distill3r_core.models.families import train_presets
from distill3r_core.report import Silent
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.stages.train.student import freeze_unused
from distill3r_core.training.run_state import random_states, restore_random_states
from distill3r_core.training.settings import ComputeSettings
from distill3r_core.training.step import accumulate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SIZE, VIEWS = (56, 84), 4


def gradient_of(device: str, *, bfloat16: bool, recompute: str = "none") -> torch.Tensor:
    """All gradients of one step, one after the other, on the CPU."""
    torch.manual_seed(0)
    student = build_student("paper", normalization="imagenet").train().to(device)
    freeze_unused(student)
    images, targets = made_sample(0, views=VIEWS, size=SIZE)
    batch = Batch(
        images=images[None],
        targets=map_targets(targets, lambda values: values[None]),
        view_numbers=torch.arange(VIEWS)[None],
        colors=None,
        draws=(Draw("made", 0),),
    )
    figures = accumulate(
        student,
        DistillationLoss(),
        batch,
        micro_batch=1,
        compute=ComputeSettings(recompute=recompute),
        bfloat16=bfloat16,
    )
    assert figures.isfinite().all()
    return torch.cat([p.grad.flatten().cpu() for p in student.parameters() if p.grad is not None])


def test_kept_random_states_draw_the_same_numbers_again_on_both_devices():
    device = torch.device("cuda")
    kept = random_states(device)
    first = [torch.rand(8), torch.rand(8, device=device)]
    restore_random_states(kept, device)
    second = [torch.rand(8), torch.rand(8, device=device)]
    assert all(torch.equal(*both) for both in zip(first, second, strict=True))


def test_gradients_in_float32_are_those_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    exact = gradient_of("cpu", bfloat16=False)
    for recompute in ("none", "heads", "all"):
        found = gradient_of("cuda", bfloat16=False, recompute=recompute)
        assert (found - exact).norm() < 1e-3 * exact.norm(), recompute


def test_gradients_in_bfloat16_point_where_those_of_float32_do():
    exact = gradient_of("cuda", bfloat16=False)
    rough = gradient_of("cuda", bfloat16=True)
    assert torch.cosine_similarity(rough, exact, dim=0) > 0.98


def test_a_full_gpu_halves_the_micro_batch_and_the_run_ends(tmp_path):
    cache = write_cache(tmp_path / "cache", sizes=((112, 154),) * 4, views=8)

    def run(name: str, batch: int = 4) -> Silent:
        values = train_presets()["small"] | {"preset": "small", "cache": cache, "device": "cuda"}
        values |= {"output": tmp_path / name, "max_steps": 3}
        values["data"] = {"batch": batch, "accumulation": 1}
        progress = Silent()
        train(config.validate(TrainSettings, values, source="the test"), progress=progress)
        return progress

    peaks = []
    for batch in (1, 4):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        assert not any("out of memory" in note for note in run(f"free-{batch}", batch).notes)
        peaks.append(torch.cuda.max_memory_reserved())
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((0.4 * peaks[0] + 0.6 * peaks[1]) / total)
    try:
        notes = run("tight").notes
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("out of memory: now" in note for note in notes), notes
    state = json.loads((tmp_path / "tight/checkpoints/last/state.json").read_text())
    assert state["step"] == 3


def test_the_demo_runs_on_a_gpu(cli, tmp_path):
    done = cli("demo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["result"]
