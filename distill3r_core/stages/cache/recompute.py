"""Ask a cache's teacher again, and judge whether it answers as it did."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core import profiling
from distill3r_core.cache.header import CacheHeader
from distill3r_core.cache.sample_codec import SampleEncoder, float16_step
from distill3r_core.cache.store import TeacherCache, unpacked
from distill3r_core.data.manifest import Manifest, Sample, read_manifest
from distill3r_core.errors import ConflictError, InputMissingError
from distill3r_core.interrupts import held
from distill3r_core.io.images.fit import Fit
from distill3r_core.report import Progress
from distill3r_core.stages.cache.sample import Recipe, load_sample, make_targets
from distill3r_core.stages.cache.work import Tally, ask
from distill3r_core.teachers import Teacher, build_teacher
from distill3r_core.threads import Pool
from distill3r_core.types import TeacherTargets

# Sums of float32 in another order move a result by far less than a step of float16, which may
# round to the neighbour. A global map is a rounded local one, carried and rounded again.
ROUNDING = 4  # float16 steps

Verdict = Literal["identical", "rounding", "different"]


@dataclass(frozen=True)
class Difference:
    """How far two answers about one sample lie apart."""

    equal: float  # share of equal float16 values, of all that are valid in one of the two answers
    largest_step: int  # in float16 steps, at pixels valid in both, rounded up
    flipped: int  # pixels valid in one of the two only
    unexplained: int  # those of them that are not so near the threshold that rounding decides

    @property
    def verdict(self) -> Verdict:
        """The same values; the same but for rounding; or another answer."""
        if self.equal == 1.0 and not self.flipped:
            return "identical"
        small = self.largest_step <= ROUNDING and not self.unexplained
        return "rounding" if small else "different"

    def __str__(self) -> str:
        if self.verdict == "identical":
            return "identical"
        steps = f"{self.largest_step} float16 step{'s' * (self.largest_step != 1)}"
        flipped = f", {self.flipped} pixels in one mask only" if self.flipped else ""
        within = f"within {steps}" if self.verdict == "rounding" else f"different, up to {steps}"
        return f"{within}, {self.equal:.2%} equal{flipped}"


@dataclass(frozen=True)
class Witness:
    """The teacher of a cache, and what it is to be asked about."""

    teacher: Teacher
    manifest: Manifest
    samples: Mapping[str, Sample]  # by name, cut as the cache's were


def samples_of(manifest: Manifest, header: CacheHeader) -> dict[str, Sample]:
    """The samples of a manifest by name, in the windows that the cache was made of."""
    found = manifest.samples() if header.views is None else manifest.samples(views=header.views)
    return {sample.name: sample for sample in found}


def call_witness(
    cache: TeacherCache, manifest: Path, *, weights: Path | None, device: str
) -> Witness:
    """Build a cache's teacher again.

    Raises:
        InputMissingError: No manifest, or one of other samples.
        WeightsError: The teacher's weights are missing.
        ConflictError: They are not those that the cache was made with.
    """
    header, rows = cache.header, read_manifest(manifest)
    samples = samples_of(rows, header)
    if header.plan and not any(planned.name in samples for planned in header.plan):
        raise InputMissingError(
            f"{manifest} has none of the samples of {cache.path}",
            hint="name the manifest that the cache was made of with --manifest",
        )
    teacher = build_teacher(
        header.teacher, weights, device=profiling.pick_device(device), **header.teacher_settings
    )
    if teacher.weights_hash != header.weights_hash:
        raise ConflictError(
            f"{cache.path} was made with weights {header.weights_hash}, "
            f"these are {teacher.weights_hash}",
            hint="name the right ones with --weights",
        )
    return Witness(teacher, rows, samples)


def ask_again(
    cache: TeacherCache, witness: Witness, names: Sequence[str], progress: Progress
) -> dict[str, Difference]:
    """Make samples once more, and compare each with what is stored.

    Raises:
        OutOfMemoryError: One of them does not fit.
    """
    header, teacher = cache.header, witness.teacher
    recipe = Recipe(
        root=witness.manifest.root,
        fit=Fit.from_plain(header.fit),
        automatic=header.size == "auto",
        threshold=header.threshold,
        export=header.export,
    )
    encoder = SampleEncoder(exact_global=header.codec == "exact")
    found: dict[str, Difference] = {}
    progress.begin("asking the teacher again", total=len(names), unit="samples")
    with Pool(1) as pool:
        for name in names:
            with held():
                loaded = load_sample(witness.samples[name], teacher, recipe, pool)
            again = make_targets(loaded, ask(teacher, loaded, Tally()), recipe).targets
            encoded = encoder.encode(name, "", loaded.images, again, {})
            found[name] = compare(cache.read(name).targets, unpacked(encoded), level=_level(header))
            progress.advance(1, equal=f"{found[name].equal:.2%}")
    return found


def compare(
    stored: TeacherTargets, again: TeacherTargets, *, level: float | None = None
) -> Difference:
    """How far two answers lie apart.

    Args:
        again: The other.
        level: The local confidence above which pixels are valid; None: the teacher's mask decides.

    Returns:
        Steps are those of the larger of the two values; of a point, of its largest coordinate: a
        coordinate near zero has small ones, and the noise of its neighbours. A global point's are
        not smaller than those of the local point that it was carried from.
    """
    both = stored.valid_mask & again.valid_mask
    either = stored.valid_mask | again.valid_mask
    scale = torch.linalg.norm(stored.global_from_local[..., :3], ord=2, dim=(-2, -1))
    carried = stored.points_local.abs().amax(-1, keepdim=True) * scale[:, None, None, None]
    maps = (
        (stored.points_local, again.points_local, 0.0),
        (stored.points_global, again.points_global, carried),
        (stored.confidence_local[..., None], again.confidence_local[..., None], 0.0),
        (stored.confidence_global[..., None], again.confidence_global[..., None], 0.0),
    )
    same, total, largest = 0, 0, 0.0
    for one, other, least in maps:
        one, other = one.half().float(), other.half().float()
        same += int((one == other)[both].sum())
        total += one.shape[-1] * int(either.sum())
        size = torch.maximum(one.abs(), other.abs()).amax(-1, keepdim=True)
        steps = (one - other).abs() / float16_step(torch.maximum(size, torch.as_tensor(least)))
        largest = max(largest, float(steps[both].amax()) if both.any() else 0.0)
    flipped = stored.valid_mask ^ again.valid_mask
    return Difference(
        equal=same / total if total else 1.0,
        largest_step=math.ceil(largest),
        flipped=int(flipped.sum()),
        unexplained=int((flipped & ~_on_the_edge(stored, again, level)).sum()),
    )


def _on_the_edge(
    stored: TeacherTargets, again: TeacherTargets, level: float | None
) -> Bool[Tensor, "N H W"]:
    """Pixels whose confidence rounding may lift over the threshold."""
    if level is None:
        return torch.zeros_like(stored.valid_mask)
    # Outside its mask an answer's confidence is 1, the least there is.
    confidence: Float[Tensor, "N H W"] = torch.maximum(
        stored.confidence_local, again.confidence_local
    )
    return (confidence - level).abs() <= ROUNDING * float16_step(confidence)


def _level(header: CacheHeader) -> float | None:
    if header.threshold is None:
        return None
    return header.threshold + (header.export.get("threshold_on", "excess") == "excess")
