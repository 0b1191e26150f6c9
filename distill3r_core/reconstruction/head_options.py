"""Options that depend on which heads are run: which poses, which points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from distill3r_core.errors import RequestError
from distill3r_core.geometry.pnp import require_pycolmap
from distill3r_core.models.student import HeadName
from distill3r_core.prediction import Predictor
from distill3r_core.problems import unknown_name
from distill3r_core.reconstruction.prediction.scene_pass import knows_scene
from distill3r_core.reconstruction.prediction.student_predictor import StudentPredictor

CloudSource = Literal["global", "aligned"]
PoseSource = Literal["similarity", "pnp", "colmap"]

_BOTH = "--head both (the default) runs the other head too"


@dataclass(frozen=True)
class WorldOptions:
    """How views come into one world.

    Args:
        compare: Run PnP beside the similarity where pycolmap is installed, to measure how far they
            agree.
        refine: Align the images by their depth afterwards; None: where the model has learned depth
            of such images.
    """

    cloud: CloudSource
    poses: PoseSource  # which poses the cameras get
    compare: bool
    refine: bool | None = None


def resolve_options(
    head: HeadName,
    cloud: CloudSource | None,
    poses: PoseSource | None,
    *,
    pnp: bool = False,
    refine: bool | None = None,
) -> WorldOptions | None:
    """How views come into one world; None where they do not: each stays in its own frame.

    Args:
        cloud: Which points make the cloud; None: local points, aligned with the world by each
            view's similarity, where there are both maps.
        poses: Which poses the cameras get; None: that similarity's where there are both maps.
        pnp: Run PnP beside the similarity where the poses are not PnP's.
        refine: See `WorldOptions`.

    Raises:
        RequestError: A name is unknown, the heads do not give what is asked for, or two options
            contradict each other.
        ExtraMissingError: The poses can only be PnP's or COLMAP's, and pycolmap is not installed.
    """
    _require_known("head", head, get_args(HeadName))
    _require_known("cloud", cloud or "aligned", get_args(CloudSource))
    _require_known("poses", poses or "similarity", get_args(PoseSource))
    if head == "local":
        wanted = "beside the similarity" if pnp else None
        asked = "images" if refine else None
        _refuse_without_world(
            {"--cloud": cloud, "--poses": poses, "--pnp": wanted, "--refine": asked}
        )
        return None
    if head == "global":
        if cloud == "aligned":
            raise _no_local("--cloud aligned carries local points into the world")
        if poses == "colmap":
            raise _no_local("--poses colmap carries local points into COLMAP's world")
        if poses == "similarity":
            raise _no_local("--poses similarity carries local points to global ones")
        cloud, poses = "global", "pnp"
    if poses == "pnp":
        require_pycolmap("poses by PnP")
    if poses == "colmap":
        require_pycolmap("poses by COLMAP")
        if cloud == "global":
            raise RequestError(
                "--poses colmap places local points; the model's global points stay where they are",
                hint="leave out --cloud global",
            )
    if poses in ("pnp", "colmap") or cloud == "global":
        if refine:
            raise RequestError(
                "--refine moves local maps; it goes with --poses similarity and --cloud aligned",
                hint="leave out --refine, or --poses and --cloud",
            )
        refine = False
    return WorldOptions(cloud or "aligned", poses or "similarity", pnp, refine)


def require_heads(model: Predictor, head: HeadName) -> None:
    """Refuse a single head of a model that has no such heads.

    Raises:
        RequestError: Names the model.
    """
    if head != "both" and not isinstance(model, StudentPredictor):
        raise RequestError(
            f"--head {head}: {model.name} predicts all maps at once",
            hint="leave --head out; one head alone can be run of a student",
        )


def heads_of(model: Predictor, head: HeadName) -> HeadName:
    """The heads that are run where some are asked for: a scene student has the global one alone.

    Raises:
        RequestError: The local head of such a student is asked for.
    """
    if not isinstance(model, StudentPredictor) or not knows_scene(model.student):
        return head
    if head == "local":
        raise RequestError(
            f"--head local: {model.name} predicts points in the frame of its scene alone",
            hint="leave --head out; poses are found by PnP",
        )
    return "global"


def require_world(head: HeadName, scale_from: str | None) -> None:
    """Refuse known positions where there are no poses to compare them with.

    Raises:
        RequestError: Names the option.
    """
    if head == "local":
        _refuse_without_world({"--scale-from": scale_from})


def _require_known(setting: str, name: str, names: Sequence[str]) -> None:
    """Refuse a name from Python that the command line would have refused."""
    if name not in names:
        raise RequestError(f"{setting}: {unknown_name(name, names)}")


def _refuse_without_world(options: dict[str, str | None]) -> None:
    for option, value in options.items():
        if value is not None:
            raise RequestError(
                f"{option} does not go with --head local, which knows no poses and makes no cloud",
                hint=_BOTH,
            )


def _no_local(reason: str) -> RequestError:
    return RequestError(f"{reason}, which --head global does not predict", hint=_BOTH)
