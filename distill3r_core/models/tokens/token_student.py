"""A student that turns each view by itself into tokens, before it lets views see each other."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.models.tokens.chunks import encoder_chunk
from distill3r_core.models.tokens.normalization import NormalizingStudent
from distill3r_core.models.tokens.view_groups import Group
from distill3r_core.nn.progress import ProgressCallback, no_progress

_FEATURE_CHUNK = 8  # images through the encoder at once where their features are wanted


class TokenStudent(NormalizingStudent):
    """A student with an encoder of single views."""

    def tokens_of(
        self, images: Float[Tensor, "n 3 H W"], *, recompute: bool
    ) -> Float[Tensor, "n P D"]:
        """Tokens of normalized images, some views at once; every family brings its own."""
        raise NotImplementedError

    def encode(
        self,
        images: Float[Tensor, "n 3 H W"],
        *,
        chunk: int | None = None,
        recompute: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> Float[Tensor, "n P D"]:
        """Patch tokens of each view by itself.

        Args:
            images: RGB in [0, 1], on any device.
            chunk: Views that go through the encoder at once; None: all.
            recompute: Keep nothing inside a block for the backward pass, compute it again there.
            on_progress: Called after every chunk.
        """
        on_progress("encoder", 0)
        parts = []
        for part in images.split(chunk or len(images)):
            parts.append(self.tokens_of(self.normalized(part), recompute=recompute))
            on_progress("encoder", len(part))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def image_features(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n P D"]:
        """See `Student.image_features`: the tokens before views see each other."""
        with torch.no_grad():
            return self.encode(images.to(self.mean.dtype), chunk=_FEATURE_CHUNK).float()

    def encode_groups(
        self,
        groups: Sequence[Group],
        *,
        recompute: bool,
        on_progress: ProgressCallback,
    ) -> list[Float[Tensor, "B _n _P D"]]:
        """Tokens of the views of each group, as many at once as suit the device.

        With gradients all views of a group at once: a backward pass keeps all of them anyway.
        """
        whole, found = torch.is_grad_enabled(), []
        for group in groups:
            tokens = self.encode(
                group.images.flatten(0, 1),
                chunk=None if whole else encoder_chunk(group.patches, self.device),
                recompute=recompute,
                on_progress=on_progress,
            )
            found.append(tokens.unflatten(0, (len(group.images), -1)))
        return found
