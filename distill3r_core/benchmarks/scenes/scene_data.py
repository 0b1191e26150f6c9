"""Teacher caches of rendered rooms for the scene study, made by the stages of the commands."""

from dataclasses import dataclass
from pathlib import Path

from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.paths import MANIFEST
from distill3r_core.report import Progress
from distill3r_core.scenes import render_scene
from distill3r_core.stages.cache import CacheSettings, build_cache
from distill3r_core.stages.manifest import ManifestSettings, build_manifest
from distill3r_core.teachers.choice import TeacherChoice

FIRST_ROOM = 3000  # seed of the first room


@dataclass(frozen=True)
class RenderedRooms:
    """Rooms whose exact depth is the teacher.

    Args:
        folder: Where their images, manifest and cache are.
        seeds: One for each room.
        frames: Number of views of each room; every fifth is held out.
        size: Rows and columns of an image.
    """

    folder: Path
    seeds: range
    frames: int
    size: tuple[int, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rooms, as `train --scene` takes them."""
        return tuple(f"room-{seed}" for seed in self.seeds)

    def cache(self, progress: Progress) -> Path:
        """The folder of the teacher cache; what is there already is not made again."""
        root, data, cache = (self.folder / name for name in ("rooms", "data", "cache"))
        for seed, name in zip(self.seeds, self.names, strict=True):
            if not (root / name / "intrinsics.txt").is_file():  # written last
                scene = render_scene(seed, self.frames, self.size)
                write_rgbd_scene(
                    root / name,
                    scene.images,
                    scene.depth,
                    scene.world_from_cam,
                    scene.intrinsics[0],
                )
        wanted = ManifestSettings(
            roots=(root,),
            output=data,
            layout="rgbd",
            stride=1,
            val_frames="every:5",
        )
        build_manifest(wanted, progress=progress)
        build_cache(
            CacheSettings(
                manifest=data / MANIFEST.name,
                output=cache,
                teacher=TeacherChoice("depth"),
                size=f"{self.size[0]}x{self.size[1]}",
            ),
            resume=True,
            progress=progress,
        )
        return cache
