"""Names of built-in records whose registries cannot be imported for a help text.

These registries import torch, and `--help` must start at once. A test holds the lists equal to
the registries.
"""

LAYOUTS = (
    *("pattern", "video"),
    *("12scenes", "7scenes", "co3d", "scannetpp", "habitat", "matterport"),
    *("megadepth", "megadepth-undistorted", "blendedmvs", "arkitscenes", "dtu", "stereolunar"),
    *("tum", "scannet", "polycam", "record3d", "strayscanner", "open3d", "nerfstudio", "colmap"),
    "rgbd",
    "images",
)
TEACHERS = (
    "depth",
    "synthetic",
    "fast3r",
    "da3-small",
    "da3-base",
    "da3-large",
    "vggt",
    "pi3",
    "mast3r",
    "dust3r-512-dpt",
    "dust3r-512-linear",
    "dust3r-224-linear",
    "student",
)
AUTOMATIC_TEACHERS = ("depth", "da3-small")  # what `--teacher auto` chooses from, in this order


def listed(names: tuple[str, ...]) -> str:
    """Names for a help text, such as "a, b or c"."""
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
