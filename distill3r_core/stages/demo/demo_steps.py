"""The steps of the demo: settings of each stage and the equivalent command line."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core import config, paths
from distill3r_core.config import STRICT
from distill3r_core.models.families import train_presets
from distill3r_core.profiling import DeviceName
from distill3r_core.report import Progress, Report
from distill3r_core.scenes import ViewKind
from distill3r_core.stages.benchmark import BenchSettings, benchmark
from distill3r_core.stages.cache import CacheSettings, build_cache
from distill3r_core.stages.evaluate import EvalSettings, evaluate
from distill3r_core.stages.infer import InferSettings, infer
from distill3r_core.stages.manifest import ManifestSettings, build_manifest
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.teachers.choice import TeacherChoice

PRESET = "tiny"
SIZE = "70x98"  # of the preset's images
# Straight down all depths are nearly alike, and a constant would do.
FLIGHTS: tuple[ViewKind, ...] = ("pitch", "landing")
BENCH_VIEWS = "4,8,16"
BENCH_SECONDS = 30
INFER_VIEWS = 12


@dataclass(frozen=True, config=STRICT)
class DemoSettings:
    """Settings of `distill3r demo`."""

    output: Path = paths.DEMO
    world: Literal["rooms", "lunar"] = "rooms"  # furnished rooms, or flights over lunar ground
    rooms: Annotated[int, Field(ge=1)] = 2  # few rooms with many views are learned fastest
    views: Annotated[int, Field(ge=12)] = 60  # of each room
    flights: Annotated[tuple[ViewKind, ...], Field(min_length=1)] = FLIGHTS  # in turns, if lunar
    every: Annotated[int, Field(ge=2)] = 6  # one of so many views of a room is held out
    steps: Annotated[int, Field(ge=1)] = 400  # of training
    seed: Annotated[int, Field(ge=0)] = 0
    device: DeviceName = "auto"

    @model_validator(mode="after")
    def _flies(self) -> "DemoSettings":
        if self.world != "lunar" and self.flights != FLIGHTS:
            raise ValueError("flights: only over lunar ground (`--scenes lunar`)")
        return self

    @property
    def scenes(self) -> Path:
        """Folder of the rendered rooms."""
        return self.output / "scenes"

    @property
    def data(self) -> Path:
        """Folder of the manifest."""
        return self.output / "data"

    @property
    def cache(self) -> Path:
        """Folder of the teacher cache."""
        return self.output / "cache"

    @property
    def run(self) -> Path:
        """Folder of the training run."""
        return self.output / "run"


@plain_dataclass(frozen=True)
class DemoStep:
    """One stage of the demo.

    Args:
        name: Name of the stage.
        command: Command line that runs it alone.
        settings: Settings that the command line resolves to.
        run: Runs the stage; takes `overwrite` and a progress.
    """

    name: str
    command: str
    settings: Any
    run: Callable[[bool, Progress], Report]


def scene_name(settings: DemoSettings, number: int) -> str:
    """Name of a rendered scene's folder."""
    return f"ground-{number}" if settings.world == "lunar" else f"room-{number}"


def steps_of(settings: DemoSettings) -> list[DemoStep]:
    """The steps after the rooms are rendered, in order."""
    return [
        _manifest(settings),
        _cache(settings),
        _train(settings),
        _evaluate(settings),
        _infer(settings),
        _bench(settings),
    ]


def _manifest(demo: DemoSettings) -> DemoStep:
    held_out = f"every:{demo.every}"
    wanted = ManifestSettings(
        roots=(demo.scenes,),
        output=demo.data,
        layout="rgbd",
        views=demo.views,  # a sample is a whole room, as for `infer`
        val_frames=held_out,
    )
    return DemoStep(
        "manifest",
        _command(
            *("manifest", demo.scenes, "--layout", "rgbd", "--views", demo.views),
            *("--val-frames", held_out, "-o", demo.data),
        ),
        wanted,
        lambda overwrite, progress: build_manifest(wanted, overwrite=overwrite, progress=progress),
    )


def _cache(demo: DemoSettings) -> DemoStep:
    manifest = demo.data / paths.MANIFEST.name
    wanted = CacheSettings(
        manifest=manifest,
        output=demo.cache,
        teacher=TeacherChoice("depth"),
        size=SIZE,
        device=demo.device,
    )
    return DemoStep(
        "cache",
        _command(
            *("cache", "--manifest", manifest, "--teacher", "depth", "--size", SIZE),
            *("-o", demo.cache, "--resume", *_device(demo)),
        ),
        wanted,
        # Samples whose frames changed are made again without --overwrite.
        lambda overwrite, progress: build_cache(wanted, resume=True, progress=progress),
    )


def _train(demo: DemoSettings) -> DemoStep:
    values = {
        "preset": PRESET,
        "cache": demo.cache,
        "output": demo.run,
        "max_steps": demo.steps,
        "seed": demo.seed,
        "device": demo.device,
    }
    wanted = config.validate(
        TrainSettings, config.merge(train_presets()[PRESET], values), source="the demo's settings"
    )
    return DemoStep(
        "train",
        _command(
            *("train", "--cache", demo.cache, "--preset", PRESET, "--max-steps", demo.steps),
            *("--seed", demo.seed, "-o", demo.run, "--resume", *_device(demo)),
        ),
        wanted,
        lambda overwrite, progress: train(
            wanted, resume=not overwrite, overwrite=overwrite, progress=progress
        ),
    )


def _evaluate(demo: DemoSettings) -> DemoStep:
    output = demo.output / "eval"
    wanted = EvalSettings(
        models=(str(demo.run),),
        colmap=False,  # the demo judges points, and is to take no longer than it does
        output=output,
        device=demo.device,
    )
    return DemoStep(
        "eval",
        _command("eval", demo.run, "--no-colmap", "-o", output, *_device(demo)),
        wanted,
        lambda overwrite, progress: evaluate(wanted, overwrite=overwrite, progress=progress),
    )


def _infer(demo: DemoSettings) -> DemoStep:
    photos, output = demo.scenes / scene_name(demo, 0) / "rgb", demo.output / "infer"
    wanted = InferSettings(
        inputs=(str(photos),),
        model=demo.run,
        output=output,
        ply=True,
        max_views=INFER_VIEWS,
        device=demo.device,
    )
    return DemoStep(
        "infer",
        _command(
            *("infer", photos, "--ply", "-m", demo.run, "--max-views", INFER_VIEWS),
            *("-o", output, *_device(demo)),
        ),
        wanted,
        lambda overwrite, progress: infer(wanted, overwrite=overwrite, progress=progress),
    )


def _bench(demo: DemoSettings) -> DemoStep:
    output = demo.output / "bench"
    wanted = BenchSettings(
        views=BENCH_VIEWS,
        size=SIZE,
        model=demo.run,
        budget=BENCH_SECONDS,
        device=demo.device,
        output=output,
    )
    return DemoStep(
        "bench",
        _command(
            *("bench", "--views", BENCH_VIEWS, "--size", SIZE, "-m", demo.run),
            *("--budget", BENCH_SECONDS, "-o", output, *_device(demo)),
        ),
        wanted,
        lambda overwrite, progress: benchmark(wanted, overwrite=overwrite, progress=progress),
    )


def _command(*words: object) -> str:
    return shlex.join(["distill3r", *(str(word) for word in words)])


def _device(demo: DemoSettings) -> Sequence[str]:
    return () if demo.device == "auto" else ("--device", demo.device)
