"""The second model of `infer --compare`: its reconstruction beside the first one's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill3r_core.errors import GeometryError, NothingUsableError
from distill3r_core.reconstruction.cameras.camera_options import CameraOptions
from distill3r_core.reconstruction.comparison.alignment import (
    ComparedViews,
    align_reconstructions,
    moved_cloud,
    moved_reconstruction,
)
from distill3r_core.reconstruction.comparison.pictures import (
    PAGE,
    PICTURE,
    NamedCloud,
    write_comparison_page,
    write_picture,
)
from distill3r_core.reconstruction.head_options import resolve_options
from distill3r_core.reconstruction.loaded_views import LoadedViews
from distill3r_core.reconstruction.point_cloud import CleanCloud, Cleaning, clean_cloud
from distill3r_core.reconstruction.prediction.load_model import LoadedModel
from distill3r_core.reconstruction.reconstruct import reconstruct_views
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.report import Failure, Progress


@dataclass(frozen=True)
class ComparedScene:
    """What the comparison of a scene gave.

    Args:
        files: The picture and the page; none where the two could not be aligned.
        record: Plain data for the record of the scene; None where there is no comparison.
        failed: The comparison itself, where it failed, and views that the second model lacks.
    """

    files: tuple[Path, ...]
    record: Mapping[str, Any] | None
    failed: tuple[Failure, ...]


@dataclass(frozen=True)
class FirstModel:
    """The reconstruction that the other model is compared with."""

    model: LoadedModel
    scene: Reconstruction
    cleaned: CleanCloud


def compare_models(
    first: FirstModel,
    other: LoadedModel,
    loaded: LoadedViews,
    folder: Path,
    *,
    title: str,
    cameras: CameraOptions,
    cleaning: Cleaning,
    seed: int,
    progress: Progress,
) -> ComparedScene:
    """Reconstruct a scene with the second model, align it with the first, write picture and page.

    Args:
        first: What is there already.
        other: The second model, always with all of its heads.
        loaded: The same images, fitted for the second model.
        folder: Folder of the result.
        title: Name of the scene.
        cameras: What is known about the cameras.
        cleaning: Which points of the second cloud are kept.
        seed: Seed of every random choice.

    Raises:
        OutOfMemoryError: The second model's pass does not fit.
        RequestError: It takes fewer views.
    """
    label = other.label if other.label != first.model.label else f"{other.label} (2)"
    try:
        outcome = reconstruct_views(
            loaded.views,
            other.predictor,
            head="both",
            options=resolve_options("both", None, None, pnp=False),
            cameras=cameras,
            known=None,
            seed=seed,
            device=other.device,
            scene=title,
            progress=progress,
        )
        assert isinstance(outcome.scene, Reconstruction), "both heads give a world"
        found = align_reconstructions(first.scene, outcome.scene)
    except (GeometryError, NothingUsableError) as error:
        return ComparedScene((), None, (Failure(f"comparison with {label}", error.message),))
    cleaned = clean_cloud(outcome.scene, cleaning)
    models = (
        NamedCloud(first.model.label, first.scene, first.cleaned),
        NamedCloud(
            label,
            moved_reconstruction(outcome.scene, found.similarity),
            moved_cloud(cleaned, found.similarity),
        ),
    )
    caption = residual_text(found, label)
    about = {"compared": caption, **first.scene.about}
    files = (
        write_picture(folder / PICTURE, models, caption=caption),
        write_comparison_page(folder / PAGE, models, title=title, about=about),
    )
    record = {
        "model": other.label,
        "location": other.location,
        "facts": list(outcome.scene.facts),
        "precision": other.precision,
        "teacher_settings": other.teacher_settings,
        "forward_seconds": round(outcome.forward.seconds, 3),
        "peak_bytes": outcome.forward.peak_bytes,
        "points": len(cleaned.cloud),
        "reliability": None
        if outcome.scene.reliability is None
        else outcome.scene.reliability.as_plain(),
        **found.as_plain(),
    }
    failed = tuple(Failure(f"{label}: {one.item}", one.reason) for one in outcome.failed)
    return ComparedScene(files, record, failed)


def residual_text(found: ComparedViews, name: str) -> str:
    """The residual of the alignment, in a line."""
    return (
        f"{name} by one similarity: points {100 * found.residual:.1f} % of the depth apart "
        f"(median), {100 * found.within:.0f} % within a tenth; cameras {found.degrees:.1f}° and "
        f"{100 * found.centers:.1f} %"
    )
