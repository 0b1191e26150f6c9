"""Options that say how the depth, poses and intrinsics of a data set are to be read."""

from typing import Annotated

import typer

PoseConventionOpt = Annotated[
    str | None,
    typer.Option(
        metavar="c2w|w2c",
        help="Stored poses are world-from-camera (c2w) or camera-from-world (w2c).",
        show_default="by layout",
    ),
]
PoseAxesOpt = Annotated[
    str | None,
    typer.Option(
        metavar="opencv|opengl",
        help="Camera axes of stored poses: opencv (y down, z forward) or opengl (y up, "
        "z backward).",
        show_default="by layout",
    ),
]
DepthScaleOpt = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        help="Stored depth units in a meter: 1000 for millimeters, 5000 for TUM.",
        show_default="by layout",
    ),
]
IntrinsicsSizeOpt = Annotated[
    str | None,
    typer.Option(
        metavar="WxH",
        help="Size of the images that the intrinsics belong to: 1296x968.",
        show_default="by layout",
    ),
]
TrustOpt = Annotated[
    bool,
    typer.Option(
        "--trust", help="Continue with depth, poses and intrinsics that contradict each other."
    ),
]
RARE = ("pose_convention", "pose_axes", "depth_scale", "intrinsics_size", "trust")
