"""What the encoders of students are fed: images in [0, 1], shifted and scaled by channel."""

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.models.spec import Normalization, StudentSpec
from distill3r_core.models.student import Student
from distill3r_core.nn.dino import IMAGENET_DEVIATION, IMAGENET_MEAN

# Mean and deviation of each channel.
NORMALIZATIONS: dict[Normalization, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "unit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": (IMAGENET_MEAN, IMAGENET_DEVIATION),
}


class NormalizingStudent(Student):
    """A student whose network takes normalized images."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, spec: StudentSpec, normalization: Normalization) -> None:
        super().__init__(spec)
        mean, deviation = NORMALIZATIONS[normalization]
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None], persistent=False)

    def normalized(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 3 H W"]:
        """The input of the network, on the device of the weights.

        Args:
            images: RGB in [0, 1], on any device.
        """
        images = images.to(self.mean.device, non_blocking=True)
        return (images - self.mean) / self.deviation
