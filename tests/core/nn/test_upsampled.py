"""The CPU's way to convolve an upsampled map."""

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from distill3r_core.nn import dpt
from distill3r_core.nn.dpt import DPTHead
from distill3r_core.nn.dpt_reference import published_order
from distill3r_core.nn.kernels import upsampled


@pytest.mark.parametrize("band", [1, 3, 16])
@pytest.mark.parametrize(
    ("source", "size"), [((4, 5), (8, 10)), ((7, 3), (12, 5)), ((1, 4), (2, 8)), ((3, 1), (6, 2))]
)
def test_it_is_the_convolution_of_the_upsampled_map(monkeypatch, band, source, size):
    torch.manual_seed(0)
    monkeypatch.setattr(upsampled, "_BAND", band)
    x = torch.randn(2, 6, *source).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(5, 6, 3, 3), torch.randn(5)
    with torch.no_grad():
        wide = interpolate(x, size, mode="bilinear", align_corners=True)
        wanted = conv2d(wide, weight, bias, padding=1)
        found = upsampled.convolve_upsampled(x, weight, bias, size)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_head_that_takes_this_way_is_the_published_one():
    torch.manual_seed(0)
    head = DPTHead((8, 8, 8, 8), patch_size=14, features=64, layer_widths=(4, 4, 4, 4))
    layers = [torch.randn(2, 15, 8) for _ in range(4)]
    with torch.no_grad():
        assert dpt._is_split_worthwhile(torch.zeros(1, 64, 2, 2))
        found, wanted = head(layers, (3, 5)), published_order(head, layers, (3, 5))
    error = (found - wanted).abs().max() / wanted.abs().max()
    assert error < 1e-5
    assert not dpt._is_split_worthwhile(torch.zeros(1, 64, 2, 2))  # gradients are wanted here
