"""The fusion transformer and the codes of its views."""

import pytest
import torch

from distill3r_core.nn.fusion import Fusion
from distill3r_core.nn.names import add_aliases, dpt_names, merge_aliases, rename, reverse
from distill3r_core.nn.view_codes import (
    TABLE_ROWS,
    random_view_numbers,
    sequential_view_numbers,
    view_code_table,
)


@pytest.fixture
def fusion():
    torch.manual_seed(0)
    return Fusion(12, width=16, depth=4, heads=2, attention_scale=1.3).eval()


def test_only_the_layers_that_were_asked_for_are_kept_and_they_are_the_same(fusion):
    tokens, numbers = torch.randn(2, 12, 12), sequential_view_numbers(2, 3)
    every = fusion(tokens, numbers, [4, 4, 4])
    assert len(every) == 5
    assert torch.equal(every[0], tokens)
    with torch.no_grad():
        some = fusion(tokens, numbers, [4, 4, 4], layers=(0, 2, 3, 4))
    for number, layer in zip((0, 2, 3, 4), some, strict=True):
        torch.testing.assert_close(layer, every[number])


def test_views_of_different_lengths_get_their_own_codes(fusion):
    tokens = torch.randn(1, 9, 12)
    lengths, numbers = [2, 4, 3], torch.tensor([[0, 7, 3]])
    found = fusion._marked(tokens, numbers, lengths) - fusion.embed(tokens)
    wanted = fusion.codes[[0, 0, 7, 7, 7, 7, 3, 3, 3]]
    torch.testing.assert_close(found[0], wanted)


def test_views_can_be_swapped_with_their_numbers(fusion):
    tokens, numbers = torch.randn(1, 3, 4, 12), torch.tensor([[0, 5, 9]])
    order = [2, 0, 1]
    plain = fusion(tokens.flatten(1, 2), numbers, [4] * 3, layers=(4,))[0].view(3, 4, 16)
    swapped = fusion(tokens[:, order].flatten(1, 2), numbers[:, order], [4] * 3, layers=(4,))[0]
    torch.testing.assert_close(swapped.view(3, 4, 16), plain[order])


def test_codes_are_sines_then_cosines_of_the_view_number():
    table = view_code_table(8)
    assert table.shape == (TABLE_ROWS, 8)
    frequencies = 10000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    torch.testing.assert_close(table[17, :4], (17 * frequencies).sin().float())
    torch.testing.assert_close(table[17, 4:], (17 * frequencies).cos().float())


def test_random_numbers_are_distinct_start_at_the_anchor_and_repeat_with_the_seed():
    draws = [random_view_numbers(3, 500, torch.Generator().manual_seed(4)) for _ in range(2)]
    assert torch.equal(*draws)
    assert (draws[0][:, 0] == 0).all()
    assert draws[0].max() < TABLE_ROWS
    for row in draws[0]:
        assert len(set(row.tolist())) == 500
    assert not torch.equal(draws[0][0], draws[0][1])


def test_official_names_come_back_with_both_aliases():
    pairs = dpt_names("head.dpt.", "local_head.")
    official = {
        f"head.dpt.{name}": number
        for number, name in enumerate(
            ["scratch.layer3_rn.weight", "scratch.refinenet2.resConfUnit1.conv1.bias",
             "act_postprocess.3.1.weight", "head.4.bias"]
        )
    }  # fmt: skip
    ours = rename(merge_aliases(official), pairs)
    assert "local_head.reduce.2.weight" in ours
    back = add_aliases(rename(ours, reverse(pairs)))
    assert back == official | {"head.dpt.scratch.layer_rn.2.weight": 0}


def test_of_two_aliases_the_later_one_decides():
    state = {"a.scratch.layer1_rn.weight": 1, "a.scratch.layer_rn.0.weight": 2}
    assert merge_aliases(state) == {"a.scratch.layer_rn.0.weight": 2}
    assert merge_aliases(dict(reversed(state.items()))) == {"a.scratch.layer_rn.0.weight": 2}
