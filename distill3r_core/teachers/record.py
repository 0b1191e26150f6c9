"""What is known about a teacher before it is built."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from pydantic.dataclasses import dataclass as checked_dataclass

from distill3r_core import config
from distill3r_core.errors import ConfigError
from distill3r_core.io.images.teacher_fit import TeacherFit
from distill3r_core.io.published_weights import PublishedWeights
from distill3r_core.teachers.base import Teacher
from distill3r_core.teachers.cost import TeacherCost


@runtime_checkable
class FrameFacts(Protocol):
    """What a manifest row says about a frame, as far as teachers need it."""

    @property
    def depth_path(self) -> object: ...
    @property
    def pose(self) -> object: ...
    @property
    def camera(self) -> str: ...
    @property
    def K_source(self) -> str: ...  # noqa: N802 - the manifest's column


@dataclass(frozen=True)
class TeacherNeeds:
    """What a teacher needs beside images.

    Args:
        depth: Registered depth of every view.
        poses: A camera pose of every view.
        poses_of_scenes: Poses are needed only in scenes in which some frame has one: samples of
            the others become local-only.
        intrinsics: A pinhole's calibrated K of every view.
        pairs: It predicts pairs of views and aligns them, which takes long.
        minutes_per_sample: About how long a sample of 20 views takes on a GPU, where that is
            minutes; None: seconds.
    """

    depth: bool = False
    poses: bool = False
    poses_of_scenes: bool = False
    intrinsics: bool = False
    pairs: bool = False
    minutes_per_sample: float | None = None

    def lacking(self, frame: FrameFacts, *, unposed: bool = False) -> tuple[str, ...]:
        """What of it a frame lacks, in words.

        Args:
            unposed: Whether the frame is of a scene in which no frame has a pose.
        """
        calibrated = frame.K_source == "calibrated" and frame.camera == "pinhole"
        needed = {
            "depth": self.depth and not frame.depth_path,
            "a pose": self.poses and frame.pose is None and not (unposed and self.poses_of_scenes),
            "a pinhole's calibrated K": self.intrinsics and not calibrated,
        }
        return tuple(words for words, lacks in needed.items() if lacks)


@checked_dataclass(frozen=True, config=config.STRICT)
class NoSettings:
    """The settings of a teacher that has none of its own."""


PREDICTED = "as the teacher predicts it"  # confidences in [1, inf) of its own
# Takes the teacher's own settings, its weights (None where it has none), and the device.
Builder = Callable[[Any, Path | None, torch.device], Teacher]


@dataclass(frozen=True)
class TeacherRecord:
    """A teacher by name.

    Args:
        name: Name that the user types.
        build: Builds it from its own settings (of type `settings`), the folder or file of its
            weights (None where it has none), and the device.
        licenses: Licenses of its weights.
        settings: Type of its own settings, a frozen pydantic dataclass made with
            `config=config.STRICT`; a teacher that draws random numbers has an integer `seed`.
        weights: Published weights; None: it has none.
        given_weights: What the user has to name by `--weights`, in words; empty: nothing.
        fit: How it takes images.
        needs: What it needs beside images.
        metric: Its points are in meters wherever the unit of the views is a length.
        threshold: Threshold on `confidence_local - 1`; None: its own mask decides.
        depth_maps: Its local maps are depth times ray: the cache stores one plane.
        simulated: It makes up scenes, whatever the images show.
        confidence: How its own measure of trust became a confidence in [1, inf), as a formula that
            the cache's header states.
        cost: What a forward pass of its network takes; None: it has no network, or it is unknown.
    """

    name: str
    build: Builder
    licenses: tuple[str, ...]
    settings: type[Any] = NoSettings
    weights: PublishedWeights | None = None
    given_weights: str = ""
    fit: TeacherFit = dataclasses.field(default_factory=TeacherFit)
    needs: TeacherNeeds = TeacherNeeds()
    metric: bool = False
    threshold: float | None = None
    depth_maps: bool = False
    simulated: bool = False
    confidence: str = PREDICTED
    cost: TeacherCost | None = None

    @property
    def seeded(self) -> bool:
        """Whether its predictions depend on a seed."""
        return any(field.name == "seed" for field in dataclasses.fields(self.settings))

    def read_settings(self, values: Mapping[str, Any]) -> Any:
        """The teacher's own settings.

        Raises:
            ConfigError: Unknown keys or values that do not fit, all of them at once.
        """
        if unknown := sorted(
            values.keys() - {one.name for one in dataclasses.fields(self.settings)}
        ):
            known = ", ".join(one.name for one in dataclasses.fields(self.settings))
            raise ConfigError(
                f"the teacher {self.name!r} has no setting {unknown[0]!r}",
                hint=f"its settings: {known}" if known else "it has no settings of its own",
            )
        return config.validate(self.settings, values, source=f"the teacher {self.name!r}")
