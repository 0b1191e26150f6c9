"""From the tokens of a small encoder to those that a pair decoder is given (arXiv:2607.01851)."""

from jaxtyping import Float
from torch import Tensor, nn


class Adapter(nn.Module):
    """A linear map without bias, then a group norm with one group: over a view's whole map.

    Args:
        inputs: Channels of the encoder's tokens.
        outputs: Channels of the decoder's.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.GroupNorm(1, outputs)
        nn.init.xavier_uniform_(self.project.weight)

    def forward(self, tokens: Float[Tensor, "n P C"]) -> Float[Tensor, "n P D"]:
        """The tokens of each view by itself."""
        mapped = self.project(tokens.to(self.project.weight.dtype))
        return self.norm(mapped.mT).mT
