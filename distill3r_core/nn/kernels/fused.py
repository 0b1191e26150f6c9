"""What a dense head does between its convolutions: fused kernels on a GPU, torch's elsewhere.

torch's own bilinear kernel for channels-last maps takes a quarter of a forward pass on a Hopper
GPU, and a bias and a ReLU are one more pass over memory each. Where Triton cannot compile
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
        from distill3r_core.nn.kernels.fused_kernels import Upsampled

        probe = torch.ones(1, 8, 2, 2, device="cuda")
        right = bool((Upsampled.apply(probe, (3, 3)) == 1).all())
    except (ImportError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        # Compilers fail in many ways, and torch's kernels can do the work in any case.
        _log.warning("no fused kernels on this GPU, its heads are slower: %s", error)
        return False
    if not right:
        _log.warning("the fused kernels give wrong numbers on this GPU: doing without them")
    return right


def upsample(x: Float[Tensor, "n C h w"], size: tuple[int, int]) -> Float[Tensor, "n C H W"]:
    """Bilinear with aligned corners, in the type of `x`: autocast would take it to float32."""
    if is_fused(x) and min(x.shape[-2:]) > 1:
        from distill3r_core.nn.kernels.fused_kernels import Upsampled

        found = Upsampled.apply(x, size)
        assert isinstance(found, Tensor)
        return found
    with torch.autocast(x.device.type, enabled=False):
        return interpolate(x, size, mode="bilinear", align_corners=True)


def convolve_relu(x: Float[Tensor, "n C h w"], layer: nn.Conv2d) -> Float[Tensor, "n D h w"]:
    """`relu(layer(x))`; on a GPU bias and ReLU in one pass without gradients.

    cuDNN could do all three in one call, but torch passes it the uninitialized result as a second
    summand with factor 0, and NaN times 0 is NaN.
    """
    lean = not torch.is_grad_enabled() and x.dtype == layer.weight.dtype
    if (
        layer.bias is None
        or not lean
        or not is_fused(x)
        or torch.is_autocast_enabled(x.device.type)
    ):
        return relu_(layer(x))
    from distill3r_core.nn.kernels.fused_kernels import add_relu

    return add_relu(without_bias(x, layer), layer.bias)


def convolve_upsample(
    x: Float[Tensor, "n C h w"], layer: nn.Conv2d, size: tuple[int, int]
) -> Float[Tensor, "n D H W"]:
    """`upsample(layer(x), size)`; on a GPU the bias comes after it without gradients.

    The result is the same, as the weights of the interpolation add up to 1, and the bias needs no
    pass of its own.
    """
    if layer.bias is None or torch.is_grad_enabled() or not is_fused(x) or min(x.shape[-2:]) < 2:
        return upsample(layer(x), size)
    from distill3r_core.nn.kernels.fused_kernels import upsample_and_add

    return upsample_and_add(without_bias(x, layer), size, layer.bias)


def maps_of(
    features: Float[Tensor, "n C H W"], before: Float[Tensor, " C"], out: nn.Conv2d
) -> tuple[Float[Tensor, "n H W 3"], Float[Tensor, "n H W"]]:
    """Points and confidences, float32, from `relu(features + before)` and a last 1x1 convolution.

    Only where `is_fused`: elsewhere these steps and `nn.outputs` are what to call.
    """
    from distill3r_core.nn.kernels.fused_kernels import maps_from

    assert out.bias is not None
    return maps_from(features, before, out.weight[:, :, 0, 0], out.bias)


def without_bias(x: Float[Tensor, "n C h w"], layer: nn.Conv2d) -> Float[Tensor, "n D h w"]:
    """What a convolution gives before its bias."""
    assert not isinstance(layer.padding, str)
    return conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def is_fused(x: Tensor) -> bool:
    """Whether a map like this goes through the fused kernels."""
    if not x.is_cuda or x.dtype not in _KINDS or torch.compiler.is_compiling():
        return False
    return kernels_work()
