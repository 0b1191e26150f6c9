"""Settings of the stage `manifest`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core import config, paths
from distill3r_core.data import splits
from distill3r_core.data.conventions.readings import Conventions, parse_image_size
from distill3r_core.data.layouts import AUTO, PoseAxes, PoseConvention, check_layout
from distill3r_core.data.windows import PolicyName
from distill3r_core.errors import ConfigError
from distill3r_core.io.images.decode import MIN_SIDE
from distill3r_core.stages.manifest import manifest_folder

ALL_VIEWS = 1_000_000  # more than a scene has frames: what is there is one smaller sample


def _read_views(value: Any) -> Any:
    return ALL_VIEWS if value == "all" else value


@dataclass(frozen=True, config=config.STRICT)
class ManifestSettings:
    """Settings of `manifest`."""

    roots: tuple[Path, ...] = Field(min_length=1)
    output: Path = paths.DATA
    layout: Annotated[str, config.reads(check_layout)] = AUTO
    # Per sample; "all": one sample holds a scene, or the frames of it that one split has.
    views: Annotated[int, BeforeValidator(_read_views)] = Field(default=20, ge=2)
    stride: int | Literal["pose"] | None = None  # between views; None: the data set's policy
    # Of each split; None: 5, and as many as it takes to use a short recording whole.
    samples_per_scene: int | None = Field(default=None, ge=1)
    sample_frac: float = Field(default=1.0, gt=0, le=1)  # of the scenes, drawn by the seed
    val_scenes: float = Field(default=0.1, ge=0, le=1)  # 0: hold nothing out
    val_frames: str | None = None  # last:N or every:K, inside scenes
    images_only: bool = False
    ignore_masks: bool = False  # neither masks nor alpha channels
    video_fps: float = Field(default=2.0, gt=0)  # frames of each second of a video
    resize_max: int = Field(default=960, ge=MIN_SIDE)  # long edge
    link: bool = False  # name the original images; they are resized when they are read
    pose_convention: PoseConvention | None = None  # of stored poses; None: the layout's
    pose_axes: PoseAxes | None = None  # camera axes of stored poses; None: the layout's
    depth_scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # units in a meter
    intrinsics_size: Annotated[str, config.reads(parse_image_size)] | None = None  # WxH of K
    # Instead of the data's own: a trajectory, COLMAP model or cameras.json, or "colmap".
    poses: str | None = Field(default=None, min_length=1)
    policy: PolicyName | None = None  # None: the data set's; "release" is the original project's
    seed: int = Field(default=0, ge=0)

    @field_validator("roots", "output", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        # As a path the empty text would be the folder that this runs in.
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            raise ValueError("an empty name is no folder")
        return value

    @field_validator("val_frames")
    @classmethod
    def _known_rule(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                splits.parse_rule(value)
            except ConfigError as error:
                raise ValueError(f"{value!r} is not {error.hint}") from error
        return value

    @field_validator("stride")
    @classmethod
    def _at_least_one(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and value < 1:
            raise ValueError(
                f"{value} is too small; it takes a whole number of at least 1, or pose"
            )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "ManifestSettings":
        if self.stride is not None and self.policy == "release":
            raise ValueError("stride: the policy release has none")
        if self.stride == "pose" and self.images_only:
            raise ValueError("stride: pose needs the poses that images_only leaves out")
        if self.estimates_poses and self.images_only:
            raise ValueError("poses: colmap estimates what images_only leaves out")
        return self

    @property
    def estimates_poses(self) -> bool:
        """Whether COLMAP is run; a file of its name is `./colmap`."""
        return self.poses == manifest_folder.COLMAP

    @property
    def conventions(self) -> Conventions:
        """Conventions that replace those of the layouts."""
        size = self.intrinsics_size
        return Conventions(
            pose_convention=self.pose_convention,
            pose_axes=self.pose_axes,
            depth_scale=self.depth_scale,
            intrinsics_size=None if size is None else parse_image_size(size),
        )
