"""What a student is shown: how a cache's images are fitted for it, and whether it takes them."""

from dataclasses import replace

from distill3r_core.cache.header import CacheHeader
from distill3r_core.errors import ConfigError
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models.families import check_size, family_of, preset_spec
from distill3r_core.models.spec import StudentSpec
from distill3r_core.report import Progress
from distill3r_core.stages.train.train_report import format_size
from distill3r_core.training.settings import DataSettings, TrainSettings


def check_input(spec: StudentSpec, data: DataSettings, fit: ImageFit) -> None:
    """Refuse sizes and numbers of views that students of that family do not take.

    Raises:
        ConfigError: Says what the family takes.
    """
    if fit.patch is None:
        check_size(spec, fit.resized or fit.size, setting="data.size")
    limits = family_of(spec).views
    if limits.fixed is not None and data.views != limits.fixed:
        raise ConfigError(
            f"data.views: students of the family {spec.family!r} train on {limits.fixed} views of "
            "a sample",
            hint=f"--set data.views={limits.fixed}",
        )
    if data.views is not None and not limits.minimum <= data.views <= limits.maximum:
        raise ConfigError(
            f"data.views: {data.views}; students of the family {spec.family!r} take "
            f"{limits.minimum} to {limits.maximum} views"
        )


def fit_of_student(settings: TrainSettings, header: CacheHeader, progress: Progress) -> ImageFit:
    """The cache's chain of resizes with the student's own, if it is smaller, behind it."""
    fit = ImageFit.from_plain(header.fit)
    wanted, stored = settings.data.size, fit.size
    if wanted is not None and (wanted[0] > stored[0] or wanted[1] > stored[1]):
        progress.note(
            f"the cache is at {format_size(stored)}, smaller than the student's "
            f"{format_size(wanted)}: training at {format_size(stored)}"
        )
        wanted = None
    wanted = wanted or _size_that_fits(settings, fit)
    if wanted is None or wanted == header.size:
        return fit
    progress.note(
        f"the cache is at {format_size(stored)}, the student at {format_size(wanted)}: "
        "targets (nearest) and images are resized once, as they are read"
    )
    return replace(fit, resized=wanted)


def _size_that_fits(settings: TrainSettings, fit: ImageFit) -> tuple[int, int] | None:
    """The largest size within the cache's that the student takes; None: the cache's own, or none.

    Caches are made for students of any patch: 224x518 is 224x512 for patches of 16.
    """
    if fit.patch is not None or settings.start is not None:
        return None
    spec = preset_spec(settings.preset, settings.model, within="model")
    step = family_of(spec).multiple(spec)
    height, width = (side // step * step for side in fit.size)
    return (height, width) if height and width else None
