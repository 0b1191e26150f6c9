"""What a student is shown: how a cache's images are fitted for it, and whether it takes them."""

from dataclasses import replace

from distill3r_core.cache.header import CacheHeader
from distill3r_core.errors import ConfigError
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models.checkpoint import find_student, read_metadata
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
    size = fit.resized or (fit.size if fit.patch is None else None)
    if size is not None:
        check_size(spec, size, setting="data.size")
    elif fit.patch is not None and fit.patch % (step := family_of(spec).multiple(spec)):
        raise ConfigError(
            f"the cache's sizes are multiples of {fit.patch}, the student takes those of {step}",
            hint=f"`distill3r cache --size HxW` with multiples of {step}",
        )
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
    too_small = wanted is not None and (wanted[0] > stored[0] or wanted[1] > stored[1])
    found = _size_that_fits(settings, fit) if wanted is None or too_small else wanted
    if too_small:
        assert wanted is not None
        progress.note(
            f"the cache is at {format_size(stored)}, smaller than the student's "
            f"{format_size(wanted)}: training at {format_size(found or stored)}"
        )
    if found is None or found == header.size:
        return fit
    progress.note(
        f"the cache is at {format_size(stored)}, the student at {format_size(found)}: "
        "targets (nearest) and images are resized once, as they are read"
    )
    return replace(fit, resized=found)


def _size_that_fits(settings: TrainSettings, fit: ImageFit) -> tuple[int, int] | None:
    """The largest size within the cache's that the student takes; None: the cache's own, or none.

    Caches are made for students of any patch: 224x518 is 224x512 for patches of 16.
    """
    if fit.patch is not None:
        return None
    if settings.start is None:
        spec = preset_spec(settings.preset, settings.model, within="model")
    else:
        metadata = read_metadata(find_student(settings.start))
        if metadata is None:
            return None
        spec = metadata.spec
    step = family_of(spec).multiple(spec)
    height, width = (side // step * step for side in fit.size)
    return (height, width) if height and width else None
