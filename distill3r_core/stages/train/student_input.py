"""What a student is shown: how a cache's images are fitted for it, and whether it takes them."""

from dataclasses import replace

from distill3r_core.cache.header import CacheHeader
from distill3r_core.errors import ConfigError
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models.families import check_size, family_of
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
        check_size(spec, fit.resized or fit.size)
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
    wanted = settings.data.size
    if wanted is None or wanted == header.size:
        return fit
    stored = fit.size
    if wanted[0] > stored[0] or wanted[1] > stored[1]:
        progress.note(
            f"the cache is at {format_size(stored)}, smaller than the student's "
            f"{format_size(wanted)}: training at {format_size(stored)}"
        )
        return fit
    progress.note(
        f"the cache is at {format_size(stored)}, the student at {format_size(wanted)}: "
        "targets (nearest) and images are resized once, as they are read"
    )
    return replace(fit, resized=wanted)
