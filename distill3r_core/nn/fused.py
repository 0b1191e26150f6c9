"""What a dense head does between its convolutions: fused kernels on a GPU, torch's elsewhere.

torch's own bilinear kernel for channels-last maps takes a quarter of a forward pass on a Hopper
GPU, and a bias, a ReLU and a sum are one more pass over memory each. Where Triton cannot compile
(no C compiler, another kind of GPU) everything runs on torch's kernels, and a warning says so.
"""

import logging
import subprocess
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, relu_

_log = logging.getLogger(__name__)
_KINDS = (torch.bfloat16, torch.float16, torch.float32)


@cache
def kernels_work() -> bool:
    """Whether this machine's GPU runs the Triton kernels; tried once."""
    if not torch.cuda.is_available():
        return False
    try:
        from distill3r_core.nn.fused_kernels import Upsampled

        probe = torch.ones(1, 8, 2, 2, device="cuda")
        return bool((Upsampled.apply(probe, (3, 3)) == 1).all())
    except (ImportError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        # Compilers fail in many ways; none of them is a reason not to compute.
        _log.warning("no fused kernels on this GPU, its heads are slower: %s", error)
        return False


def upsample(x: Float[Tensor, "n C h w"], size: tuple[int, int]) -> Float[Tensor, "n C H W"]:
    """Bilinear with aligned corners, in the type of `x`: autocast would take it to float32."""
    if is_fused(x) and min(x.shape[-2:]) > 1:
        from distill3r_core.nn.fused_kernels import Upsampled

        found = Upsampled.apply(x, size)
        assert isinstance(found, Tensor)
        return found
    with torch.autocast(x.device.type, enabled=False):
        return interpolate(x, size, mode="bilinear", align_corners=True)


def convolve_relu(x: Float[Tensor, "n C h w"], layer: nn.Conv2d) -> Float[Tensor, "n D h w"]:
    """`relu(layer(x))`."""
    if not _is_lean(x, layer):
        return relu_(layer(x))
    from distill3r_core.nn.fused_kernels import finish

    assert layer.bias is not None
    return finish(_without_bias(x, layer), layer.bias)


def convolve_add(
    x: Float[Tensor, "n C h w"], layer: nn.Conv2d, other: Float[Tensor, "n D h w"]
) -> Float[Tensor, "n D h w"]:
    """`layer(x) + other`, in new memory."""
    if not _is_lean(x, layer):
        return layer(x).add_(other)
    from distill3r_core.nn.fused_kernels import finish

    assert layer.bias is not None
    return finish(_without_bias(x, layer), layer.bias, other)


def _without_bias(x: Tensor, layer: nn.Conv2d) -> Tensor:
    return conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def maps_of(
    features: Float[Tensor, "n C H W"], out: nn.Conv2d
) -> tuple[Float[Tensor, "n H W 3"], Float[Tensor, "n H W"]]:
    """Points and confidences, float32, from the map before a head's last 1x1 convolution.

    Only where `is_fused`: elsewhere the convolution and `nn.outputs` are what to call.
    """
    from distill3r_core.nn.fused_kernels import maps_from

    assert out.bias is not None
    return maps_from(features, out.weight[:, :, 0, 0], out.bias)


def is_fused(x: Tensor) -> bool:
    """Whether a map like this goes through the fused kernels."""
    if not x.is_cuda or x.dtype not in _KINDS or torch.compiler.is_compiling():
        return False
    return kernels_work()


def _is_lean(x: Tensor, layer: nn.Conv2d) -> bool:
    """A bias, no gradients wanted, and nobody casts on the way."""
    plain = not torch.is_grad_enabled() and x.dtype == layer.weight.dtype
    plain = plain and layer.bias is not None and not torch.is_autocast_enabled(x.device.type)
    return plain and is_fused(x)
