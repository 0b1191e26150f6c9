"""One optimizer step: what recomputation may change, and what not."""

import pytest
import torch
from small_caches import made_sample
from torch.autograd.graph import saved_tensors_hooks

from distill3r_core.data.loading.batches import Batch, Draw, map_targets
from distill3r_core.losses import DistillationLoss
from distill3r_core.models import build_student
from distill3r_core.stages.train.student import freeze_unused
from distill3r_core.training.settings import ComputeSettings
from distill3r_core.training.step import accumulate

SIZE, VIEWS = (28, 42), 3


def gradients_and_kept(recompute: str) -> tuple[dict[str, torch.Tensor], int]:
    """The gradients of a step, and the bytes that its forward pass kept for the backward one."""
    torch.manual_seed(0)
    student = build_student("tiny").train()
    freeze_unused(student)
    images, targets = made_sample(0, views=VIEWS, size=SIZE)
    batch = Batch(
        images=images[None],
        targets=map_targets(targets, lambda values: values[None]),
        view_numbers=torch.arange(VIEWS)[None],
        colors=None,
        draws=(Draw("made", 0),),
    )
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        accumulate(
            student,
            DistillationLoss(),
            batch,
            micro_batch=1,
            compute=ComputeSettings(recompute=recompute),
            bfloat16=False,
        )
    return {name: p.grad for name, p in student.named_parameters() if p.requires_grad}, sum(
        kept.values()
    )


@pytest.mark.parametrize(("recompute", "share"), [("heads", 0.75), ("all", 0.5)])
def test_a_step_that_recomputes_keeps_less_and_has_the_same_gradients(recompute, share):
    plain, all_kept = gradients_and_kept("none")
    again, kept = gradients_and_kept(recompute)
    assert kept < share * all_kept
    assert again.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-7)
