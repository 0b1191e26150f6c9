"""The GPU's kernels, compiled for GPUs that this machine need not have."""

import pytest

pytest.importorskip("triton", reason="torch for this machine comes without Triton")

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from distill3r_core.nn.kernels import fused_kernels as kernels

_TILE = {"PIXELS": 16, "CHANNELS": 128}
_SIZES = dict.fromkeys(("total", "rows", "columns", "low_rows", "low_columns", "channels"), "i32")
_SCALES = {"row_scale": "fp32", "column_scale": "fp32"}


def _cases(kind: str):
    """Kernel, types of its arguments, constants."""
    resized = {**_SIZES, **_SCALES}
    upsample = {"source": kind, "target": kind, "bias": kind, **resized}
    yield kernels._upsample, upsample, {"BIASED": False, **_TILE}
    yield kernels._upsample, upsample, {"BIASED": True, **_TILE}
    backward = {"gradient": kind, "result": kind, **resized}
    reach = {"REACH_DOWN": 6, "REACH_ACROSS": 6}
    yield kernels._upsample_backward, backward, {**reach, **_TILE}
    total = {"total": "i32", "channels": "i32"}
    yield kernels._add_relu, {"target": kind, "bias": kind, **total}, {"BLOCK": 2048}
    exact = dict.fromkeys(("weight", "bias", "points", "confidence"), "*fp32")
    yield kernels._maps, {"source": kind, "before": kind, **exact, **total}, _TILE


@pytest.mark.parametrize("capability", [80, 89, 90])
@pytest.mark.parametrize("kind", ["*bf16", "*fp32"])
def test_every_kernel_compiles(kind, capability):
    for kernel, types, constants in _cases(kind):
        signature = {
            name: types.get(name, "constexpr") for name in kernel.arg_names
        }  # in the kernel's own order
        source = ASTSource(kernel, signature, constexprs=constants)
        assert compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
