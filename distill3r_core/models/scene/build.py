"""From a spec to a scene student."""

from distill3r_core.models.scene.convolutional import MobileNetwork, PixelNetwork
from distill3r_core.models.scene.patches import PatchNetwork
from distill3r_core.models.scene.spec import ConvolutionalSpec, MobileSpec, PatchSpec, SceneSpec
from distill3r_core.models.scene.student import SceneStudent


def build_network(
    spec: ConvolutionalSpec | MobileSpec | PatchSpec,
) -> PixelNetwork | MobileNetwork | PatchNetwork:
    """A network with random weights."""
    if isinstance(spec, ConvolutionalSpec):
        return PixelNetwork(spec.width)
    if isinstance(spec, MobileSpec):
        return MobileNetwork(spec.channels)
    return PatchNetwork(spec)


def build(spec: SceneSpec) -> SceneStudent:
    """A student with random weights."""
    return SceneStudent(build_network(spec.network), spec)
