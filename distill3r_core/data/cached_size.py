"""What samples take in a cache, before anything is known about them."""

DEFAULT_SIZE = (224, 518)  # rows and columns of landscape samples
# Stored bytes per pixel, targets and image together: a little more than was measured
# (docs/benchmarks.md).
_DEPTH_BYTES, _MAP_BYTES = 3.0, 5.5


def bytes_per_pixel(*, depth_maps: bool) -> float:
    """Stored bytes of each pixel of each view.

    Args:
        depth_maps: Local maps are depth times the pixels' rays: one plane is stored.
    """
    return _DEPTH_BYTES if depth_maps else _MAP_BYTES
