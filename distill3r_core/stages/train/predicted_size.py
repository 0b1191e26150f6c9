"""Students that predict their size (`model.map_size`): where it begins, what has to teach it."""

import torch

from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.sample_sources import read_at
from distill3r_core.errors import ConfigError
from distill3r_core.geometry.scale import SMALLEST, mean_distance
from distill3r_core.models.multiview.student import MultiviewStudent
from distill3r_core.models.student import Student
from distill3r_core.training.settings import TrainSettings

# At most, spread evenly over the training samples and over the views of each.
_SAMPLES, _VIEWS = 32, 4


def begin_with_size(student: Student, cache: CacheUnion) -> None:
    """Set the predicted size of a fresh student to the mean of some training views.

    From there it learns in what one view differs from another. Students that predict no size, and
    those that have learned one, stay as they are.
    """
    if not isinstance(student, MultiviewStudent) or student.map_size is None:
        return
    if not student.map_size.untrained:
        return
    names, found = cache.names("train"), []
    for name in (names[index] for index in _spread(len(names), _SAMPLES)):
        _, targets = read_at(cache, name, _spread(cache.entry(name).views, _VIEWS), size=None)
        sizes = mean_distance(targets.points_local, targets.valid_mask, per_view=True)
        found.append(sizes[targets.valid_mask.flatten(1).any(1)].clamp(min=SMALLEST).log())
    known = torch.cat(found) if found else torch.zeros(0)
    if len(known):
        student.map_size.begin(float(known.mean()))


def settle_size(student: Student, settings: TrainSettings) -> None:
    """Keep a predicted size where nothing teaches it; a fresh one would be left at random.

    Raises:
        ConfigError: It is asked for in a run without the term `scale`.
    """
    if not isinstance(student, MultiviewStudent) or student.map_size is None:
        return
    if settings.loss.teaches_scale:
        return
    if settings.start is None:
        raise ConfigError(
            "model.map_size: predicted: nothing teaches it, as the run has no term `scale`",
            hint="--set model.map_size=auto; or train on caches in meters, with loss.metric=true",
        )
    student.map_size.requires_grad_(False)


def _spread(count: int, most: int) -> list[int]:
    return torch.linspace(0, count - 1, min(count, most)).round().long().tolist()
