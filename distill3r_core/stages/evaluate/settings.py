"""The settings of an evaluation."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.config import STRICT
from distill3r_core.data.conventions.readings import Conventions, parse_image_size
from distill3r_core.data.layouts import AUTO, PoseAxes, PoseConvention, check_layout
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.geometry.pnp import pnp_available, require_pycolmap
from distill3r_core.profiling import DeviceName
from distill3r_core.teachers.choice import OwnSettings

ModelName = Annotated[str, BeforeValidator(lambda model: str(model))]  # a path is a name too


@dataclass(frozen=True, config=STRICT)
class EvalSettings:
    """What is scored, and against what."""

    # Runs, weight files and names of models; the first is compared with the others. Empty: the
    # newest run, where one is needed.
    models: tuple[ModelName, ...] = ()
    # Settings of teachers among them; each takes those that it has.
    teacher: OwnSettings = Field(default_factory=dict)
    data: Path | None = None  # with ground truth; None: the run's validation samples
    layout: Annotated[str, config.reads(check_layout)] = AUTO  # of `data`
    protocol: Annotated[str, config.reads(PROTOCOLS.__getitem__)] = "table2"
    predict: Literal["student", "truth", "constant"] = "student"
    # COLMAP's poses as a baseline. None: where pycolmap is installed, for sequences of up to 60
    # views; True: for all sequences.
    colmap: bool | None = None
    refine: bool = True  # poses of models by image alignment, as `infer` does; scored beside
    size: Annotated[str, config.LOWER, config.reads(config.parse_size)] | None = (
        None  # grid of maps that come from no model; None: the protocol's
    )
    # A file with poses that are the truth in place of the data's: see `read_known_poses`.
    poses: Path | None = None
    pose_convention: PoseConvention | None = None  # of the data's poses; None: the layout's
    pose_axes: PoseAxes | None = None  # camera axes of these poses; None: the layout's
    depth_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = (
        None  # units in a meter
    )
    intrinsics_size: Annotated[str, config.reads(parse_image_size)] | None = None  # WxH of K
    device: DeviceName = "auto"
    output: Path | None = None  # None: results/eval/<run>-<data>-<protocol>

    @model_validator(mode="after")
    def _data_to_read(self) -> "EvalSettings":
        if self.data is None and self.conventions != Conventions():
            raise ValueError(f"{self.conventions.options}: how ground truth is read; give --data")
        if self.poses is None:
            return self
        if self.data is None:
            raise ValueError(f"--poses {self.poses}: true poses of a data set; give --data")
        if self.pose_convention is not None or self.pose_axes is not None:
            raise ValueError(
                f"--poses {self.poses}: --pose-convention and --pose-axes are of "
                "the data's own poses"
            )
        return self

    @property
    def uses_colmap(self) -> bool:
        """Whether COLMAP's poses are scored.

        Raises:
            ExtraMissingError: They are asked for, and pycolmap is not installed.
        """
        if self.colmap:
            require_pycolmap("COLMAP's poses")
        return pnp_available() if self.colmap is None else self.colmap

    @property
    def changes_truth(self) -> bool:
        """Whether the truth is not as the data set gives it."""
        return self.poses is not None or self.conventions != Conventions()

    @property
    def conventions(self) -> Conventions:
        """Conventions that replace those of the data's layout."""
        size = self.intrinsics_size
        return Conventions(
            pose_convention=self.pose_convention,
            pose_axes=self.pose_axes,
            depth_scale=self.depth_scale,
            intrinsics_size=None if size is None else parse_image_size(size),
        )
