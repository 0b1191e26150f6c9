"""Statistics that batch norms keep: a forward pass changes them, whatever becomes of its step."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class RunningMeans:
    """The running means and variances of a network, as they were before a step.

    A step that is skipped, or done again with smaller passes, must not leave its mark in them: one
    value that is not finite would stay in them for ever.

    Args:
        network: Its batch norms keep their buffers for as long as this exists.
    """

    def __init__(self, network: nn.Module) -> None:
        self._buffers = [
            buffer
            for part in network.modules()
            if isinstance(part, _BatchNorm)
            for buffer in part.buffers(recurse=False)
        ]
        self._kept: list[Tensor] = []

    def keep(self) -> None:
        """Remember them as they are now."""
        self._kept = [buffer.clone() for buffer in self._buffers]

    def restore(self) -> None:
        """Put back what was remembered."""
        for buffer, kept in zip(self._buffers, self._kept, strict=True):
            buffer.copy_(kept)
