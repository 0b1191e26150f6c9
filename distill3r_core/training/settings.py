"""Every setting of a training run, with the paper's values as defaults."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core import paths
from distill3r_core.config import STRICT, read_names
from distill3r_core.losses import LossSettings
from distill3r_core.models.families import StudentSize
from distill3r_core.profiling import DeviceName

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Recompute = Literal["none", "heads", "all"]
Extend = Literal["constant", "cosine"]


def _one_or_several(value: Path | tuple[Path, ...]) -> Path | tuple[Path, ...]:
    """A list of one path is that path: both make the same run."""
    if isinstance(value, tuple) and len(value) == 1:
        return value[0]
    if value == ():
        raise ValueError("it names no cache")
    return value


def _listed(value: Any) -> Any:
    """One name as a list of it."""
    return (value,) if isinstance(value, str) else value


def _read_weights(value: Any) -> Any:
    """`a=2` of the command line as a mapping; other types pass unchanged."""
    if not isinstance(value, list | tuple):
        return value
    weights: dict[str, str] = {}
    for text in value:
        name, equals, weight = str(text).rpartition("=")
        if not equals or not name or not weight:
            raise ValueError(f"cannot read {text!r}; it takes NAME=WEIGHT, such as kitchen=2")
        if name in weights:
            raise ValueError(f"{name!r} is given twice")
        weights[name] = weight
    return weights


@dataclass(frozen=True, config=STRICT)
class DataSettings:
    """What a step is made of."""

    size: StudentSize | None = None  # landscape; None: that of the cache
    views: Annotated[int, Field(ge=2)] | None = None  # per draw; None: all of the sample
    batch: Count = 4  # samples of one forward and backward pass, per process
    accumulation: Count = 2  # passes of one optimizer step
    augment_views: bool = True  # random subset, order and anchor
    # The subset is from so many successive views of the sample, which overlap; None: from all.
    span: Annotated[int, Field(ge=2)] | None = None
    mirror: bool = False
    colors: bool = False
    # Each view shows a random part, its sides from 1 / zoom on, stretched by at most `aspect`.
    zoom: Annotated[float, Field(ge=1, le=8)] = 1.0
    aspect: Annotated[float, Field(ge=1, le=2)] = 1.0
    # Each view is seen by a camera nearby, turned by at most so many degrees and moved by at most
    # this share of the median depth; of teachers with depth maps.
    turn: Annotated[float, Field(ge=0, le=60)] = 0.0
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    random_view_numbers: bool = True
    # Share of the pixels of a training view that counts, the same ones in every draw; None: all.
    sparse: Annotated[float, Field(gt=0, le=1)] | None = None
    hold: bool | None = None  # keep all samples in memory; None: where they take little of it
    workers: Count | None = None  # threads that read; None: by what the machine has

    @model_validator(mode="after")
    def _span_has_the_views(self) -> "DataSettings":
        if self.span is None:
            return self
        if self.views is None or self.views > self.span:
            wanted = "all views; set views" if self.views is None else f"{self.views} views"
            raise ValueError(f"span: {self.span} successive views are too few for {wanted}")
        if not self.augment_views:
            raise ValueError("span: without augment_views the first views are taken")
        return self

    @model_validator(mode="after")
    def _depth_is_dense(self) -> "DataSettings":
        if self.sparse is not None and self.nearby:
            raise ValueError(
                "what cameras nearby see (turn, shift) asks for whole maps, not sparse ones"
            )
        return self

    @property
    def nearby(self) -> bool:
        """Whether views are seen by cameras nearby."""
        return self.turn > 0 or self.shift > 0

    @property
    def crops(self) -> bool:
        """Whether views show parts of the cached images."""
        return self.zoom > 1 or self.aspect > 1


@dataclass(frozen=True, config=STRICT)
class OptimSettings:
    """AdamW."""

    lr: Amount = 1e-4
    betas: tuple[Share, Share] = (0.9, 0.95)
    eps: Amount = 1e-8
    weight_decay: Amount = 0.01
    decay: Literal["matrices", "all"] = "matrices"  # which parameters decay; the paper: all
    clip: Amount = 1.0  # norm of the gradient; 0: not clipped
    # Submodules of the student that are not trained, as `encoder`; for how many steps, None: all.
    freeze: Annotated[tuple[str, ...], BeforeValidator(read_names)] = ()
    freeze_steps: Count | None = None


@dataclass(frozen=True, config=STRICT)
class ScheduleSettings:
    """Learning rate by optimizer step: linear from zero, then half a cosine."""

    steps: Count | None = None  # length of the run; --max-steps and --epochs go before it
    epochs: Count | None = 60  # the same, where `steps` is not set
    warmup_steps: Annotated[int, Field(ge=0)] | None = 3500
    warmup_share: Share = 0.05  # of the run, where `warmup_steps` is not set
    final_lr: Amount = 5e-5
    # Of the steps that `--resume` with a larger length adds: the rate that the run ended with, or
    # a cosine from `optim.lr` to `final_lr` over each addition.
    extend: Extend = "constant"


@dataclass(frozen=True, config=STRICT)
class ValidationSettings:
    """Validation on held-out samples."""

    every_steps: Count = 500  # and at the end
    samples: Count = 32  # at most so many, spread over all of them
    # What `best` has the least of: the held-out loss, or the error of local maps, which `infer`
    # makes clouds of, after one scale per view; None: the latter where the loss teaches them.
    best: Literal["loss", "shape"] | None = None
    patience: Count | None = None  # stop after so many validations without a better one


@dataclass(frozen=True, config=STRICT)
class CheckpointSettings:
    """What is kept of a run."""

    every_steps: Count = 500  # and at the end
    keep: Count = 2  # the newest; the best is kept beside them


@dataclass(frozen=True, config=STRICT)
class ComputeSettings:
    """How a step is computed. None of it changes what is computed, but for rounding."""

    # auto: bfloat16 on CUDA, else float32; float64 is for comparing runs with each other
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    recompute: Recompute = "none"  # activations to compute again instead of keeping them
    head_chunk: Count | None = None  # views that go through a head at once; None: by device


@dataclass(frozen=True, config=STRICT)
class FeatureSettings:
    """Where the teacher's features come from, for terms that compare them."""

    # cached: stored by `cache --features`; live: the teacher's encoder runs on the images as they
    # are shown; auto: cached where every cache has them, else live
    source: Literal["auto", "cached", "live"] = "auto"
    teacher: str | None = None  # whose encoder runs; None: that of the cache
    weights: Path | None = None  # its weights, if they are not in the usual place


@dataclass(frozen=True, config=STRICT)
class FaultSettings:
    """When to give up."""

    nonfinite_in_a_row: Count = 5  # skipped steps before the run stops
    runaway: Annotated[float, Field(gt=1)] = 30.0  # growth of the raw norms that is warned of


@dataclass(frozen=True, config=STRICT)
class TrainSettings:
    """A training run."""

    preset: str = "paper"
    cache: Annotated[Path | tuple[Path, ...], AfterValidator(_one_or_several)] = paths.CACHE
    # How often samples of each of several caches are drawn, by folder name or path; one that is
    # not named has weight 1. Empty: by their sizes.
    cache_weights: Annotated[dict[str, Weight], BeforeValidator(_read_weights)] = field(
        default_factory=dict
    )
    output: Path | None = None  # None: runs/<preset>-NNN, the next number
    max_steps: Count | None = None
    epochs: Count | None = None
    max_hours: Annotated[float, Field(gt=0)] | None = None
    start: Path | None = None  # `--from`: a checkpoint whose weights the student starts with
    # Of a scene student, see `samples_of_scenes`; empty: the only scene that there is.
    scene: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    allow_missing: bool = False
    gpus: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    device: DeviceName = "auto"
    tensorboard: bool = False
    model: dict[str, Any] = field(default_factory=dict)  # changes to the preset's student
    encoder_weights: Literal["auto", "none"] | Path = "auto"  # DUNE's file; auto: if it is found
    # How a fresh student starts: none, svd or subspace. None: subspace where `init_from` is set.
    init: Literal["none", "svd", "subspace"] | None = None
    init_from: Path | None = None  # file of the larger pair network that svd and subspace read
    # Images of the cache on which subspace measures it; None: the weights alone decide.
    init_images: Annotated[int, Field(ge=2)] | None = None
    data: DataSettings = DataSettings()
    optim: OptimSettings = OptimSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    loss: LossSettings = LossSettings()
    features: FeatureSettings = FeatureSettings()
    validation: ValidationSettings = ValidationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    compute: ComputeSettings = ComputeSettings()
    faults: FaultSettings = FaultSettings()

    @property
    def warm_start(self) -> str | None:
        """Name of the warm start; None: there is none."""
        if self.init is None:
            return None if self.init_from is None else "subspace"
        return None if self.init == "none" else self.init

    @property
    def caches(self) -> tuple[Path, ...]:
        """Folders of the teacher caches that it learns from."""
        return self.cache if isinstance(self.cache, tuple) else (self.cache,)


# What may differ between the parts of one run: it moves the work, not the result.
FREE_TO_CHANGE = ("output", "max_hours", "gpus", "device", "tensorboard", "allow_missing")


def default_preset() -> str:
    """Preset that `train` takes by default: `paper` on a GPU, `small` on a CPU."""
    return "paper" if torch.cuda.is_available() else "small"
