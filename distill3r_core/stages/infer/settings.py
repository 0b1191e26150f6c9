"""What `infer` is asked for."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT
from distill3r_core.models.families import StudentSize
from distill3r_core.models.student import HeadName
from distill3r_core.problems import unknown_name
from distill3r_core.profiling import DeviceName
from distill3r_core.reconstruction.formats import FORMATS
from distill3r_core.reconstruction.head_options import CloudSource, PoseSource
from distill3r_core.reconstruction.point_cloud import Cleaning
from distill3r_core.runs.student_file import Precision
from distill3r_core.teachers.choice import OwnSettings


def _split(value: Any) -> Any:
    """The names of a comma list."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _known_format(name: str) -> str:
    """The name, if a format has it."""
    if name not in FORMATS:
        raise ValueError(unknown_name(name, list(FORMATS)))
    return name


_Format = Annotated[str, AfterValidator(_known_format)]
_Formats = Annotated[tuple[_Format, ...], BeforeValidator(_split), Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class InferSettings:
    """What `infer` is asked for.

    Args:
        inputs: Folders, images, patterns, videos: one scene, unless `each`.
        model: A run's folder, a weight file or the name of a model; None: the newest run.
        compare: Another model whose cloud is put beside that of `model`; None: none.
        teacher: Settings of teachers among the two; each takes those that it has.
        output: Folder of the result; None: below `results/infer`.
        format: Names of formats; None: "ply", or "depth" where only the local head is run.
        ply: PLY besides what `format` names.
        size: Rows and columns of landscape images for the student; None: those it was trained at.
        head: Which heads are run; one alone gives less, see `heads`.
        conf: The percentage of all points with the lowest confidence that is dropped.
        edges: Points are dropped where depth jumps by more than this share of it; 0: none.
        voxel: One point per cube of this edge, in the unit of the scene; 0: all.
        max_points: At most so many points, drawn without preference.
        cloud: Points of the global map, or local points carried by each view's similarity; None:
            the latter where both heads are run.
        poses: From that similarity, from PnP with RANSAC, or from COLMAP (both: the extra
            `colmap`); None: the first where both heads are run.
        pnp: Run PnP beside the similarity where it is installed, to measure how far they agree.
        refine: Align the images by their depth after the pass; None: where the student has learned
            depth of such images.
        strict: Count an unreliable reconstruction as failed.
        fps: Frames taken of each second of a video, at most.
        intrinsics: K of all full-size images: `fx,fy,cx,cy` or a file; None: estimated.
        shared_camera: One focal length for all views.
        scale_from: What makes lengths metric: `FIRST:SECOND=METERS`, or a file of positions.
        ignore_masks: Use all pixels, whatever masks and alpha channels say.
        keep_exif: Keep metadata (place, time, camera) in copies of the images.
        max_views: Views taken of each scene, evenly spread, at most; None: all.
        precision: Precision of the products; "auto" is bfloat16 on a GPU that has it.
        compile: torch.compile for encoder and heads: worth its minute for many scenes.
        each: Every folder in the inputs is a scene of its own.
        device: auto, cpu, cuda, cuda:1 or mps.
        seed: Seed of every random choice.
    """

    inputs: tuple[str, ...] = Field(min_length=1)
    model: str | Path | None = None
    compare: str | Path | None = None
    teacher: OwnSettings = Field(default_factory=dict)
    output: Path | None = None
    format: _Formats | None = None
    ply: bool = False
    size: StudentSize | None = None
    head: HeadName = "both"
    conf: Annotated[float, Field(ge=0, lt=100, allow_inf_nan=False)] = 10.0
    edges: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    voxel: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_points: Annotated[int, Field(ge=1)] = 1_000_000
    cloud: CloudSource | None = None
    poses: PoseSource | None = None
    pnp: bool = False
    refine: bool | None = None
    strict: bool = False
    intrinsics: str | None = None
    shared_camera: bool = False
    scale_from: str | None = None
    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    ignore_masks: bool = False
    keep_exif: bool = False
    max_views: Annotated[int | None, Field(ge=1)] = None
    precision: Precision = "auto"
    compile: bool = False
    each: bool = False
    device: DeviceName = "auto"
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def formats(self) -> tuple[str, ...]:
        """Each once, in order."""
        plain: tuple[str, ...] = ("ply",) if self.ply else ()
        default = "depth" if self.head == "local" else "ply"
        return tuple(dict.fromkeys((*plain, *(self.format or (() if plain else (default,))))))

    @property
    def cleaning(self) -> Cleaning:
        """Which points stay."""
        return Cleaning(self.conf, self.edges, self.voxel, self.max_points, self.seed)
