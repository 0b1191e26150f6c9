"""The test frames of a data set as ground truth: its depth, at the grid of a model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from distill3r_core.data.conventions.check_data import DataCheck, check_data
from distill3r_core.data.conventions.readings import Conventions, with_conventions
from distill3r_core.data.frame_processing import Processed, Processing, process
from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.known_poses import KnownPoses, best_matches, posed_frames
from distill3r_core.data.layouts import LAYOUTS, Frame, detect_layout, frames_for_test
from distill3r_core.errors import ConfigError, ImageError
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.protocols.frame_rules import ConsecutiveFrames, Window
from distill3r_core.evaluation.test_data import TestData
from distill3r_core.evaluation.view_truth import NamedView, PrepareViews, check_view, truth_of
from distill3r_core.report import Failure, Progress
from distill3r_core.types import View


def read_test_data(
    root: Path,
    *,
    layout: str,
    protocol: Protocol,
    processing: Processing,
    prepare: PrepareViews,
    trained_on: Collection[str],
    conventions: Conventions = Conventions(),
    poses: KnownPoses | None = None,
    trust: bool = False,
    checked: bool = False,
    progress: Progress,
) -> TestData:
    """The frames of a data set that a protocol scores.

    Args:
        processing: How frames were brought to their processed form for the model.
        prepare: How views become the model's input.
        trained_on: Hashes of images that are left out, and counted.
        conventions: Conventions that replace those of the layout.
        poses: Poses that replace those of the data; frames that they do not name are left out,
            and named. None: the data's own.
        trust: Score against data whose parts contradict each other.
        checked: Whether they have been checked already.

    Raises:
        ConfigError: There are `poses`, and the protocol reads data of a form of its own.
        ContradictionError: Depth, poses, intrinsics and images do not fit together.
        InputMissingError: There is nothing at `root`.
        RequestError: The names of `poses` do not tell scenes apart.
    """
    if protocol.reader is not None:
        if poses is not None:
            raise ConfigError(
                f"poses {poses.path}: {protocol.name} takes those of its own data",
                hint="leave it out, or score by another protocol",
            )
        return protocol.reader(root, prepare=prepare, progress=progress)
    layout = detect_layout(root)[0].name if layout == "auto" else layout
    sequences = {
        name: with_conventions(frames, conventions)
        for name, frames in frames_for_test(root, layout, all_splits=not protocol.test_only)
    }
    if poses is not None:
        best = best_matches(sequences.items(), poses)
        sequences = {name: posed_frames(frames, poses, best) for name, frames in sequences.items()}
    sequences, failed = _scored_sequences(sequences, protocol)
    windows = _windows(protocol, layout, sequences)
    check, seen = DataCheck(), 0
    if not checked:
        used = {window.sequence: sequences[window.sequence] for window in windows}
        check = check_data(root.resolve().name, used, trust=trust, progress=progress)
    if trained_on and isinstance(protocol.frames, ConsecutiveFrames):
        # Cut around training frames, as the windows of a run's validation frames are.
        scored = sum(map(len, sequences.values()))
        sequences = _untrained(sequences, trained_on, processing, trust=trust, progress=progress)
        seen = scored - sum(map(len, sequences.values()))
        windows = _windows(protocol, layout, sequences)
    progress.begin("read", total=sum(len(window.frames) for window in windows), unit="frames")
    truths = []
    for window in windows:
        kept: list[NamedView] = []
        for index in window.frames:
            frame = sequences[window.sequence][index]
            if not protocol.needs_depth:
                frame = replace(frame, depth=None)
            progress.advance()
            if poses is not None and frame.pose is None:
                failed.append(Failure(str(frame.image), f"{poses.path} has no pose of it"))
                continue
            try:
                processed = process(read_source_frame(frame, trust=trust), processing)
                view = _view_of(processed)
                check_view(view, needs_depth=protocol.needs_depth)
            except ImageError as error:
                failed.append(Failure(str(frame.image), str(error)))
                continue
            if processed.picture in trained_on:
                seen += 1
                continue
            kept.append(NamedView(frame.name, view, processed.content))
        if kept:
            world = window.sequence
            if LAYOUTS[layout].shared_world:
                world = world.rpartition("/")[0]
            truth, unusable = truth_of(
                window.name, world, kept, prepare, needs_depth=protocol.needs_depth
            )
            failed += unusable
            if truth is not None:
                surface = None if protocol.surface is None else protocol.surface(root, truth.name)
                truths.append(replace(truth, surface=surface))
    return TestData(
        layout,
        truths,
        views=sum(len(truth.view_names) for truth in truths),
        contents=[part for truth in truths for part in truth.parts],
        seen=seen,
        failed=list(dict.fromkeys(failed)),  # windows overlap
        check=check,
    )


def _scored_sequences(
    sequences: Mapping[str, Sequence[Frame]], protocol: Protocol
) -> tuple[dict[str, Sequence[Frame]], list[Failure]]:
    """The sequences that a protocol takes frames from, and those that it leaves out."""
    scored, failed = {}, []
    for name, frames in sequences.items():
        problem = None if protocol.sequences is None else protocol.sequences.problem(frames)
        if problem is None:
            scored[name] = frames
        else:
            failed.append(Failure(name, f"left out by {protocol.name}: {problem}"))
    return scored, failed


def _windows(
    protocol: Protocol, layout: str, sequences: Mapping[str, Sequence[Frame]]
) -> Sequence[Window]:
    numbers = {name: [frame.number for frame in frames] for name, frames in sequences.items()}
    return protocol.frames(layout, numbers)


def _untrained(
    sequences: Mapping[str, Sequence[Frame]],
    trained_on: Collection[str],
    processing: Processing,
    *,
    trust: bool,
    progress: Progress,
) -> dict[str, Sequence[Frame]]:
    """The frames whose images are not among those of a training; unreadable ones stay."""
    progress.begin(
        "look for training frames", total=sum(map(len, sequences.values())), unit="frames"
    )

    def trained(frame: Frame) -> bool:
        progress.advance()
        try:
            # With its depth, whose size tells how a turned image is stored.
            source = read_source_frame(frame, trust=trust)
            return process(source, processing).picture in trained_on
        except ImageError:
            return False  # named when it is read

    kept = {name: [it for it in frames if not trained(it)] for name, frames in sequences.items()}
    return {name: frames for name, frames in kept.items() if frames}


def _view_of(processed: Processed) -> View:
    """A processed frame as a view; K only where it is calibrated."""
    return View(
        image=processed.image,
        intrinsics=processed.intrinsics if processed.intrinsics_source == "calibrated" else None,
        depth=processed.depth,
        world_from_cam=processed.world_from_cam,
        unit=processed.unit,
        mask=processed.mask,
        is_nominal=processed.is_nominal,
    )
