"""The GPU's kernels, run by Triton's interpreter, against torch's own operations."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="torch for this machine comes without Triton")

PROGRAM = """
import torch
from torch.nn.functional import interpolate, linear
from distill3r_core.nn.kernels import fused_kernels as kernels
from distill3r_core.nn.outputs import confidence_from_raw, points_from_raw

torch.manual_seed(0)
for source, size, channels in (
    ((3, 4), (6, 8), 8), ((4, 5), (7, 9), 24), ((2, 2), (3, 5), 16), ((5, 3), (5, 3), 8),
    ((6, 7), (6, 13), 130), ((9, 8), (4, 5), 8),
):
    x = torch.randn(2, channels, *source).to(memory_format=torch.channels_last).requires_grad_()
    wanted = interpolate(x, size, mode="bilinear", align_corners=True)
    found = kernels.Upsampled.apply(x, size)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    bias = torch.randn(channels)
    with torch.no_grad():
        shifted = kernels.upsample_and_add(x, size, bias)
    torch.testing.assert_close(shifted, wanted + bias[:, None, None], rtol=1e-5, atol=1e-5)
    above = torch.randn_like(wanted)
    (theirs,) = torch.autograd.grad(wanted, x, above)
    (ours,) = torch.autograd.grad(found, x, above)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

for layout in (torch.channels_last, torch.contiguous_format):  # one view may lie either way
    for views in (1, 2):
        target, bias = torch.randn(views, 6, 3, 5).contiguous(memory_format=layout), torch.randn(6)
        wanted = torch.relu(target + bias[:, None, None])
        torch.testing.assert_close(kernels.add_relu(target.clone(), bias), wanted)

raised = torch.randn(2, 20, 3, 5).to(memory_format=torch.channels_last)
before = torch.randn(20)
features = torch.relu(raised + before[:, None, None])
for factor in (1e-4, 1e-2, 0.3, 1.0, 3.0):
    weight, bias = factor * torch.randn(4, 20), 0.1 * factor * torch.randn(4)
    raw = linear(features.permute(0, 2, 3, 1), weight, bias)
    points, confidence = kernels.maps_from(raised, before, weight, bias)
    torch.testing.assert_close(points, points_from_raw(raw[..., :3]), rtol=1e-4, atol=1e-5 * factor)
    torch.testing.assert_close(confidence, confidence_from_raw(raw[..., 3]), rtol=1e-5, atol=1e-6)
zero = torch.zeros(4, 20)
assert not kernels.maps_from(raised, before, zero, torch.zeros(4))[0].any()
lost = kernels.maps_from(torch.full_like(raised, torch.nan), before, weight, bias)
assert lost[0].isnan().all() and lost[1].isnan().all()
"""


HEAD = """
from unittest import mock
import torch
from distill3r_core.nn import dpt, maps
from distill3r_core.nn.kernels import fused
from distill3r_core.nn.dpt import DPTHead
from distill3r_core.nn.dpt_reference import published_maps
from distill3r_core.nn.maps import predict_maps

torch.manual_seed(0)
widths, grid = (12, 8, 8, 8), (3, 5)
head = DPTHead(widths, patch_size=14, features=16, layer_widths=(4, 6, 8, 10)).eval()
layers = [torch.randn(3, 20, width)[:, 5:] for width in widths]
with torch.inference_mode():
    wanted = published_maps(head, layers, grid)
    with (
        mock.patch.object(fused, "is_fused", lambda x: True),
        mock.patch.object(maps, "is_fused", lambda x: True),
        mock.patch.object(dpt, "_is_folding_worthwhile", lambda x: False),
    ):
        for chunk in (1, 2, 3):
            found = predict_maps(head, layers, grid, chunk=chunk)
            torch.testing.assert_close(found.points, wanted.points, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.confidence, wanted.confidence, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.parametrize("program", [PROGRAM, HEAD], ids=["each kernel", "a head, chunk by chunk"])
def test_the_kernels_compute_what_torchs_operations_do(program):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
