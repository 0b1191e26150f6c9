"""The teacher caches of a run: opened, checked, and described."""

from dataclasses import replace

from distill3r_core.cache.maps.maps_layout import DEPTH_PLANES, Kind
from distill3r_core.data.loading.cache_union import CacheUnion, naming_repair
from distill3r_core.errors import CacheError, ConfigError, NothingUsableError
from distill3r_core.report import Progress
from distill3r_core.training.settings import TrainSettings

_SHOWN = 5  # names in a message


def open_caches(settings: TrainSettings) -> CacheUnion:
    """The caches of a run, as they are.

    Raises:
        InputMissingError: One is not there.
        ConfigError, CacheError: They do not go together; see `CacheUnion`.
    """
    return CacheUnion.open(settings.caches, settings.cache_weights)


def open_finished(settings: TrainSettings, progress: Progress) -> CacheUnion:
    """The caches of a run, with all samples that are planned, or with `allow_missing`.

    Raises:
        InputMissingError, ConfigError: As `open_caches`.
        CacheError: As `open_caches`; or one lacks planned samples.
        ConfigError: Views are to be seen by cameras nearby, of maps without cameras.
        NothingUsableError: None holds training samples.
    """
    caches = open_caches(settings)
    for member in caches.members:
        with naming_repair(member.cache.path):
            missing = member.cache.missing()
        if not missing:
            continue
        path, planned = member.cache.path, len(member.cache.header.plan)
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        text = f"{path} lacks {len(missing)} of {planned} planned samples: {shown}"
        if not settings.allow_missing:
            raise CacheError(
                text,
                hint=f"finish it with `distill3r cache --resume -o {path}`, or train "
                "on what is there with --allow-missing",
            )
        progress.note(f"warning: {text}")
    names = caches.names("train")
    if not names:
        held = "holds" if not caches.several else "hold"
        paths = ", ".join(str(path) for path in settings.caches)
        raise NothingUsableError(
            f"{paths} {held} no training samples",
            hint=f"see `distill3r cache info {settings.caches[0]}`",
        )
    if settings.data.nearby:
        _require_cameras(caches)
    alone = sum(bool(caches.entry(name).kind & Kind.LOCAL_ONLY) for name in names)
    if alone == len(names):
        progress.note(
            "warning: no training sample has poses: the global map of the student learns nothing "
            "(`distill3r manifest ... --poses colmap` estimates poses)"
        )
    return caches


def _require_cameras(caches: CacheUnion) -> None:
    without = [member for member in caches.members if member.cache.planes != DEPTH_PLANES]
    if without:
        teachers = ", ".join(dict.fromkeys(member.cache.header.teacher for member in without))
        raise ConfigError(
            f"data.turn and data.shift: {without[0].cache.path} holds no depth maps with cameras "
            f"alone (its teacher: {teachers})",
            hint="--set data.turn=0 --set data.shift=0; or a cache of a teacher of depth maps "
            "(depth, da3-small, vggt), without a global map of its own",
        )


def resolve_metric(
    settings: TrainSettings, caches: CacheUnion, progress: Progress
) -> TrainSettings:
    """Decide by the caches whether the student learns meters, where the settings leave it open.

    Returns:
        The settings with `loss.metric` true or false.

    Raises:
        ConfigError: It is asked for, and the targets of a cache are not in meters; or the term
            that teaches it has weight 0.
    """
    loss = settings.loss
    relative = [str(m.cache.path) for m in caches.members if not m.cache.header.metric]
    if loss.metric and relative:
        raise ConfigError(
            f"loss.metric: the targets of {', '.join(relative)} are not in meters",
            hint="leave loss.metric out; or train on caches of a metric teacher alone, such as "
            "`depth` on data with depth in a known unit",
        )
    if loss.metric and not loss.teaches_size:
        raise ConfigError(
            "loss.metric: the term `scale` has weight 0", hint="--set loss.metric=false"
        )
    if loss.metric is not None:
        return settings
    metric = learns_meters(settings, caches)
    if 0 < len(relative) < len(caches.members):
        progress.note(
            f"the student's scale stays relative (loss.metric=false): the targets of "
            f"{', '.join(relative)} are not in meters, those of the other caches are"
        )
    return replace(settings, loss=replace(loss, metric=metric))


def learns_meters(settings: TrainSettings, caches: CacheUnion) -> bool:
    """Whether the student learns meters: as the settings say, else where all targets are in meters.

    A term `scale` of weight 0 teaches none, unless points are compared in the targets' unit.
    """
    loss = settings.loss
    if loss.metric is not None:
        return loss.metric
    return caches.metric and replace(loss, metric=True).teaches_size


def learns_size_apart(settings: TrainSettings, caches: CacheUnion) -> bool:
    """Whether a size that is predicted apart would be taught: by the term `scale` alone."""
    metric = learns_meters(settings, caches)
    return metric and replace(settings.loss, metric=True).teaches_scale


def describe_caches(caches: CacheUnion, progress: Progress) -> None:
    """Say what a run on several caches draws from, and where they do not go well together."""
    if not caches.several:
        return
    counts = {member.label: len(caches.names_of(member, "train")) for member in caches.members}
    weights = {
        member.label: (member.weight or 0) if member.weight is not None else counts[member.label]
        for member in caches.members
    }
    whole = sum(weight for label, weight in weights.items() if counts[label])
    for member in caches.members:
        label, header = member.label, member.cache.header
        share = weights[label] / whole if counts[label] else 0.0
        progress.note(
            f"cache {label}: teacher {header.teacher}, {counts[label]} training samples, "
            f"{share:.0%} of the draws"
        )
    first, *others = caches.members
    for other in others:
        one, two = first.cache.header, other.cache.header
        if one.fit != two.fit:
            progress.note(
                f"the teachers of {first.label} and {other.label} crop images differently; the "
                f"student takes images as those of {first.label}"
            )
        if one.processing != two.processing:
            progress.note(
                f"warning: the images of {first.label} and {other.label} were processed "
                f"differently by `manifest`; `eval --data` does as for {first.label}, and may "
                f"not know again frames that were trained on"
            )
    _warn_of_shared_images(caches, progress)


def _warn_of_shared_images(caches: CacheUnion, progress: Progress) -> None:
    """Warn of images that one cache holds out and another one trains on."""
    trained = {image for name in caches.names("train") for image in caches.detail(name)["pictures"]}
    held_out = caches.names("val")
    known = [name for name in held_out if trained.intersection(caches.detail(name)["pictures"])]
    if known:
        progress.note(
            f"warning: {len(known)} of {len(held_out)} held-out samples show images that another "
            f"cache trains on (first: {known[0]}): their figures are too good"
        )
