"""Attention, rotary codes and blocks: laws, and cases worked by hand."""

import math

import pytest
import torch

from distill3r_core.nn.attention import Attention
from distill3r_core.nn.block import Block
from distill3r_core.nn.encoder import PatchEmbed, RotaryEncoder
from distill3r_core.nn.kernels import sliced
from distill3r_core.nn.rotary import grid_rotation, rotate


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def by_hand(attention: Attention, tokens: torch.Tensor, scale: float) -> torch.Tensor:
    """The formula, head by head."""
    query, key, value = attention.qkv(tokens).chunk(3, dim=-1)
    width = query.shape[-1] // attention.heads
    found = []
    for head in range(attention.heads):
        part = slice(head * width, (head + 1) * width)
        logits = query[..., part] @ key[..., part].mT * scale / math.sqrt(width)
        found.append(logits.softmax(-1) @ value[..., part])
    return attention.proj(torch.cat(found, -1))


@pytest.mark.parametrize("scale", [1.0, 1.28])
def test_attention_is_the_formula_with_its_scale(scale):
    attention = Attention(12, 3, scale=scale)
    tokens = torch.randn(2, 7, 12)
    torch.testing.assert_close(attention(tokens), by_hand(attention, tokens, scale))


def test_a_type_of_its_own_holds_under_autocast_too():
    tokens = 5 * torch.randn(1, 9, 16)
    exact = Attention(16, 2, dtype=torch.float64)
    coarse = Attention(16, 2)
    coarse.load_state_dict(exact.state_dict())
    qkv = exact.qkv(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(exact.mix(qkv).float(), coarse.mix(qkv.double()).float())
        assert coarse.mix(qkv).dtype == torch.bfloat16


def test_rotated_products_depend_on_the_offset_of_patches_alone():
    rotation = grid_rotation(4, 5, 8)
    query = rotate(torch.randn(1, 1, 1, 8).expand(1, 1, 20, 8), rotation)[0, 0].view(4, 5, 8)
    key = rotate(torch.randn(1, 1, 1, 8).expand(1, 1, 20, 8), rotation)[0, 0].view(4, 5, 8)
    here = torch.einsum("ijc,ijc->ij", query[:-1, :-2], key[1:, 2:])  # one down, two right
    torch.testing.assert_close(here, here[0, 0].expand_as(here))


def test_the_first_half_of_a_head_turns_with_rows_and_the_second_with_columns():
    turned = rotate(torch.ones(1, 1, 6, 8), grid_rotation(2, 3, 8))[0, 0].view(2, 3, 8)
    assert torch.equal(turned[:, 0, :4], turned[:, 2, :4])
    assert torch.equal(turned[0, :, 4:], turned[1, :, 4:])
    assert torch.equal(turned[0, 0], torch.ones(8))
    # One radian: the lowest frequency index of base 100 turns (1, 1) by the row number.
    wanted = [math.cos(1) - math.sin(1), math.cos(1) + math.sin(1)]
    torch.testing.assert_close(turned[1, 0, [0, 2]], torch.tensor(wanted))


def test_many_tokens_in_slices_give_what_they_give_at_once(monkeypatch):
    monkeypatch.setitem(sliced.SLICE, "cpu", 5)
    block = Block(16, 4, layer_scale=0.3)
    tokens = torch.randn(2, 23, 16)
    with torch.no_grad():
        wanted = block(tokens)
        torch.testing.assert_close(sliced.run_block(block, tokens, overwrite=False), wanted)
        found = sliced.run_block(block, tokens, overwrite=True)
    torch.testing.assert_close(found, wanted)
    assert found.data_ptr() == tokens.data_ptr()


def test_recomputing_changes_no_gradient():
    encoder = RotaryEncoder(PatchEmbed(4, 16), width=16, depth=2, heads=2)
    images = torch.randn(2, 3, 8, 12)
    gradients = []
    for recompute in (False, True):
        encoder.zero_grad()
        encoder(images, recompute=recompute).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])
