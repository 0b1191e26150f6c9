"""The transformer in which all views of a sample see each other (Fast3R, arXiv:2501.13928)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill3r_core.nn.attention import preferred_kernels
from distill3r_core.nn.block import Block, initialize
from distill3r_core.nn.kernels.sliced import run_block
from distill3r_core.nn.progress import ProgressCallback, no_progress
from distill3r_core.nn.view_codes import TABLE_ROWS, view_code_table


class Fusion(nn.Module):
    """Full self-attention over the tokens of all views, each with the embedding of its view added.

    Its layers are numbered as the heads ask for them: 0 is the encoder's tokens as they come in,
    i the output of block i, and the last one goes through a final norm. `kernels` chooses the
    attention's kernels by device; a benchmark sets others. `kept_dtype` is the type in which
    layers are kept for the heads (None: as they are), whatever the blocks hand on.

    Args:
        attention_scale: Factor on the usual softmax scale; a property of the weights.
        dtype: See `Attention`.
    """

    codes: Tensor
    kernels: Callable[[torch.device], AbstractContextManager[object]]

    def __init__(
        self,
        encoder_width: int,
        *,
        width: int,
        depth: int,
        heads: int,
        attention_scale: float = 1.0,
        block_eps: float = 1e-5,
        norm_eps: float = 1e-6,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_width, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, eps=block_eps, scale=attention_scale, dtype=dtype)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.kept_dtype: torch.dtype | None = None
        self.register_buffer("codes", view_code_table(width), persistent=False)
        self.kernels = preferred_kernels
        initialize(self)

    def forward(
        self,
        tokens: Float[Tensor, "B T C"],
        view_numbers: Int[Tensor, "B N"],
        view_lengths: Sequence[int],
        *,
        layers: Sequence[int] | None = None,
        recompute: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> list[Tensor]:
        """The layers that were asked for, each (B, T, channels).

        Args:
            tokens: Tokens of all views, one view after the other.
            view_lengths: Tokens of every view; they add up to T.
            layers: Numbers of the layers to keep, in rising order; None: all of them. Nothing
                else is kept.
            recompute: Keep nothing inside a block for the backward pass, compute it again there.

        Raises:
            AssertionError: More views than the table has rows.
        """
        assert view_numbers.shape[1] <= TABLE_ROWS, f"more than {TABLE_ROWS} views"
        wanted = range(len(self.blocks) + 1) if layers is None else layers
        on_progress("fusion", 0)
        kept = {0: self._kept(tokens)}
        state = self._marked(tokens, view_numbers, view_lengths)
        with self.kernels(tokens.device):
            for number, block in enumerate(self.blocks, start=1):
                assert isinstance(block, Block)
                fresh = kept.get(number - 1) is not state
                state = run_block(block, state, overwrite=fresh, recompute=recompute)
                if number in wanted and number < len(self.blocks):
                    kept[number] = self._kept(state)
                on_progress("fusion", 1)
        kept[len(self.blocks)] = self._kept(self.norm(state))
        return [kept[number] for number in wanted]

    def _kept(self, state: Tensor) -> Tensor:
        return state if self.kept_dtype is None else state.to(self.kept_dtype)

    def _marked(
        self, tokens: Tensor, view_numbers: Tensor, view_lengths: Sequence[int]
    ) -> Float[Tensor, "B T D"]:
        """Tokens at this transformer's width, plus the embedding of their view."""
        state = self.embed(tokens.to(self.embed.weight.dtype))
        codes = self.codes[view_numbers.to(self.codes.device)]  # (B, N, D)
        if len(set(view_lengths)) == 1:
            state = state.unflatten(1, (len(view_lengths), -1)) + codes[:, :, None]
            return state.flatten(1, 2)  # (B, T, D)
        lengths = torch.tensor(view_lengths, device=codes.device)
        spread = codes.repeat_interleave(lengths, dim=1, output_size=tokens.shape[1])
        return state + spread
