"""The report of `manifest`."""

import collections
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distill3r_core import config, paths
from distill3r_core.data.conventions.check_data import DataCheck, check_notes
from distill3r_core.data.layouts import Refused
from distill3r_core.data.layouts.folders import shown
from distill3r_core.data.manifest_cells import Split
from distill3r_core.data.planning import DatasetPlan
from distill3r_core.data.windows import SAMPLES
from distill3r_core.errors import NothingUsableError
from distill3r_core.io.images.media import LeftOut
from distill3r_core.io.images.media_kinds import IMAGE_SUFFIXES
from distill3r_core.report import Failure, Omission, Report, Table, counted
from distill3r_core.stages.manifest.dry_run import ExpectedWork, expected_table
from distill3r_core.stages.manifest.frame_processor import FrameOutcomes

_CHANGES = "--stride N and --samples-per-scene N change"
_SHOWN_REASONS = 3  # in the message where nothing is usable
_COLUMNS = ("data set", "layout", "scenes", "images", "samples", "validation", "rejected")


@dataclass(frozen=True, eq=False)
class ProcessedDataset:
    """One data set, with what became of its frames."""

    root: str
    plan: DatasetPlan
    outcomes: FrameOutcomes = field(default_factory=FrameOutcomes)
    check: DataCheck = field(default_factory=DataCheck)

    @cached_property
    def refused(self) -> list[Refused]:
        """All that was left out of it."""
        listing = self.plan.listing
        reasons, damaged = self.outcomes.refused, self.outcomes.damaged
        frames = [
            Refused(frame.image, reason)
            for scene in listing.scenes
            if scene.scene_id in damaged
            for frame in scene.frames
            if (reason := reasons.get(listing.key_of(scene, frame)))
        ]
        return [*listing.refused, *frames, *self.plan.refused]

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Files that are no input of its layout."""
        return self.plan.listing.left_out

    @property
    def masked(self) -> int:
        """Number of images that have a mask, by a file or an alpha channel."""
        return self.outcomes.masked

    @cached_property
    def notes(self) -> list[str]:
        """Choices made in detecting the layout, listing, splitting and reading images."""
        listing = self.plan.listing
        places: dict[str, list[Path]] = collections.defaultdict(list)
        said = self.outcomes.notes
        for scene in listing.scenes if said else ():
            for frame in scene.frames:
                for note in said.get(listing.key_of(scene, frame), ()):
                    places[note].append(frame.image)
        images = [f"{_named(found)}: {note}" for note, found in places.items()]
        packed = counted(len(listing.packed), "archive", "are")
        unread = [f"{listing.name}: {packed} not counted (a dry run unpacks none)"]
        masked = counted(self.masked, "image", "have")
        masks = [f"{listing.name}: {masked} a mask"] if self.masked else []
        recognized = []
        if (reason := listing.dataset.reason) is not None:
            recognized.append(f"{listing.name} has the layout {listing.layout.name}: {reason}")
        checked = check_notes(listing.name, self.check)
        known = [
            *recognized,
            *listing.notes,
            *(unread if listing.packed else []),
            *self._order_notes,
            *self.plan.notes,
        ]
        return [*known, *checked, *masks, *images]

    @property
    def _order_notes(self) -> list[str]:
        """Says which scenes may not be in the order of a camera's path."""
        listing = self.plan.listing
        places = [scene.scene_id for scene in listing.scenes if not scene.is_ordered]
        if not places:
            return []
        which = places[0] if len(places) == 1 else f"{len(places)} scenes (first: {places[0]})"
        return [
            f"{listing.name}: no order is known of {which}: the images are taken in the order of "
            "their names (look at it with --preview)"
        ]

    @property
    def found(self) -> int:
        """How many frames there are, with those that were refused while they were listed."""
        listing = self.plan.listing
        return sum(len(scene.frames) for scene in listing.scenes) + sum(
            item.frames for item in listing.refused
        )

    def usage(self, settings: Any) -> str:
        """How many of its frames samples use, and what leaves the others out."""
        plan, found = self.plan, self.found
        count = f"{plan.listing.name}: {counted(found, 'frame')} found, {plan.images} used"
        spare = plan.usable - plan.images
        if rejected := found - plan.usable:
            count += f", {rejected} rejected"
        if not spare:
            return count
        policies = {plan.listing.dataset.policy_of(one.scene).name for one in plan.scenes}
        names = {settings.policy} if settings.policy else policies
        if settings.stride == "pose":
            rule = "--stride pose takes one for every 0.25 m and 15 degrees"
        elif settings.stride is not None:
            rule = f"--stride {settings.stride} skips the others"
        elif settings.samples_per_scene is not None:
            rule = f"--samples-per-scene {settings.samples_per_scene} takes no more"
        elif names == {"release"}:
            rule = (
                f"the original's rule takes {SAMPLES} runs of {settings.views} from the beginning"
            )
        elif names == {"orbit"}:
            rule = f"{SAMPLES} samples go around the object, each by its stride"
        else:
            rule = f"a long scene gives {SAMPLES} samples, by the data set's stride"
        change = "--samples-per-scene N changes" if names == {"release"} else _CHANGES
        return f"{count}, {spare} left out: {rule} ({change} it)"

    @property
    def figures(self) -> dict[str, Any]:
        """Its line in the report, as plain data."""
        plan = self.plan
        sides: tuple[Split, ...] = ("train", "val")
        return {
            "dataset": plan.listing.name,
            "layout": plan.listing.layout.name,
            "root": self.root,
            "scenes": sum(bool(scene.windows) for scene in plan.scenes),
            "frames": self.found,
            "images": plan.images,
            "samples": {side: plan.samples(side) for side in sides},
            "rejected": len(self.refused),
            "depth_agreement": self.check.figures,
        }


def report_of(
    settings: Any,
    made: Sequence[ProcessedDataset],
    *,
    files: Sequence[Path],
    finished: bool = False,
    expected: Sequence[ExpectedWork] | None = None,
) -> Report:
    """The outcome, for people and for scripts.

    Args:
        settings: Settings of the stage.
        made: The data sets of this run.
        files: What was written.
        finished: Nothing had to be done.
        expected: Of a dry run, which writes nothing: what each data set will take.
    """
    figures = [part.figures for part in made]
    dry_run = expected is not None
    for line, work in zip(figures, expected or (), strict=dry_run):
        line |= work.figures
    total = {
        "scenes": sum(line["scenes"] for line in figures),
        "images": sum(line["images"] for line in figures),
        "samples": {
            side: sum(line["samples"][side] for line in figures) for side in ("train", "val")
        },
        "rejected": sum(line["rejected"] for line in figures),
    }
    lines = [_line(line) for line in figures]
    if len(lines) > 1:
        lines.append(_line({"dataset": "all", "layout": "", **total}))
    failed = [Failure(shown(item.path), item.reason) for part in made for item in part.refused]
    failed += [
        Failure(part.root, "no sample came of it")
        for part in made
        if not part.plan.images and not part.refused and not part.plan.listing.packed
    ]
    return Report(
        settings=config.as_plain(settings),
        result={"dry_run": dry_run, "datasets": figures, **total},
        files=files,
        failed=failed,
        omitted=[
            Omission(shown(item.path), item.reason) for part in made for item in part.left_out
        ],
        tables=[
            Table("", _COLUMNS, tuple(lines)),
            *([expected_table(figures)] if dry_run else []),
        ],
        notes=[
            *(note for part in made for note in part.notes),
            *(part.usage(settings) for part in made if part.plan.scenes),
            *(["nothing has changed: all of it was there"] if finished else []),
            _next(settings.output, dry_run),
        ],
        finished_before=finished,
    )


def nothing_usable(made: Sequence[ProcessedDataset], *, images_only: bool) -> NothingUsableError:
    """The error where every input was rejected: the first reasons, and a way out."""
    refused = [item for part in made for item in part.refused]
    places = ", ".join(dict.fromkeys(part.root for part in made))
    if not refused:
        looked_for = " ".join(sorted(IMAGE_SUFFIXES))
        notes = [note for part in made for note in part.plan.listing.notes]
        return NothingUsableError(
            "\n".join([f"no pictures under {places}", *notes]), hint=f"looked for {looked_for}"
        )
    lines = [f"  {shown(item.path)}: {item.reason}" for item in refused[:_SHOWN_REASONS]]
    if len(refused) > _SHOWN_REASONS:
        lines.append(f"  and {len(refused) - _SHOWN_REASONS} more, in rejected.csv")
    with_depth = any("depth" in part.plan.listing.layout.carries for part in made)
    return NothingUsableError(
        f"nothing usable under {places}:\n" + "\n".join(lines),
        hint="--images-only keeps pictures without their depth and poses"
        if with_depth and not images_only
        else None,
    )


def _line(figures: Mapping[str, Any]) -> tuple[str, ...]:
    samples = figures["samples"]
    return (
        figures["dataset"],
        figures["layout"],
        str(figures["scenes"]),
        str(figures["images"]),
        str(samples["train"] + samples["val"]),
        str(samples["val"]),
        str(figures["rejected"]),
    )


def _named(found: Sequence[Path]) -> str:
    """The image, or how many there are and the first of them."""
    if len(found) == 1:
        return shown(found[0])
    return f"{len(found)} pictures, the first {shown(found[0])}"


def _next(output: Path, dry_run: bool) -> str:
    if dry_run:
        return "dry run: by the listing and a few images of each data set; nothing was written"
    if output == paths.DATA:
        return "next: distill3r cache --resume"
    return f"next: distill3r cache --manifest {shlex.quote(str(output / 'manifest.csv'))} --resume"
