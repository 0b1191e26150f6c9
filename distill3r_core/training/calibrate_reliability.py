"""Measure a student on held-out samples as `infer` will measure its reconstructions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.pose_errors import pair_errors
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import reanchor, scale_of
from distill3r_core.models import Student
from distill3r_core.models.feature_statistics import FeatureStatistics, fit_features
from distill3r_core.models.reliability_calibration import ReliabilityCalibration
from distill3r_core.reconstruction.cameras.camera_poses import align_local_map
from distill3r_core.reconstruction.reconstruction import AlignedMap
from distill3r_core.reconstruction.reliability.map_checks import check_maps
from distill3r_core.reconstruction.reliability.novelty import novelty_of
from distill3r_core.reconstruction.reliability.verdict import MapChecks
from distill3r_core.reconstruction.view_maps import Map, finite_pixels
from distill3r_core.types import PointMap, PointMaps, TeacherTargets

# Images and targets of some views of a sample, at the student's size, on the CPU.
ReadViews = Callable[[str, Sequence[int]], tuple[UInt8[Tensor, "N 3 H W"], TeacherTargets]]

_MAX_SAMPLES = 4  # held-out samples: 0.6 % of a `tiny` run's time
_FEW_VIEWS = 4  # of the smaller windows
_FEATURE_IMAGES = 64  # training images whose features are measured
_ODD = 1.25  # times the held-out windows: training windows beyond it are taken for odd ones
_TRAINING_WINDOWS = 16  # of neighbors, whose distance from all training images is measured


@dataclass(frozen=True)
class CalibrationSamples:
    """The samples that a student is calibrated on.

    Args:
        held_out: Number of views of each held-out sample, by name.
        train: The same of the training samples.
        metric: The student has learned the size of its targets, which are in meters.
    """

    held_out: dict[str, int]
    train: dict[str, int]
    read: ReadViews
    metric: bool = False


def calibrate(student: Student, samples: CalibrationSamples) -> ReliabilityCalibration | None:
    """Reconstruct windows of held-out samples and compare them with the teacher.

    Weights, random numbers and training mode are left as they were.

    Returns:
        None for a student that does not predict both maps, or whose maps cannot be aligned.
    """
    training = student.training
    student.eval()
    try:
        with torch.no_grad():
            features = _training_features(student, samples)
            windows = [
                found
                for name, views in _spread(samples.held_out, _MAX_SAMPLES)
                for found in _sample_windows(student, samples.read, name, views, features)
            ]
            learned = [] if features is None else _training_novelties(student, samples, features)
    finally:
        student.train(training)
    if not windows:
        return None
    misfits = [one.checks.misfit for one in windows if one.checks.misfit is not None]
    spreads = [one.checks.spread for one in windows if one.checks.spread is not None]
    agreements = [one.checks.agreement for one in windows if one.checks.agreement is not None]
    novelties = [one.novelty for one in windows if one.novelty is not None]
    rotations = [one.rotation_error for one in windows if one.rotation_error is not None]
    return ReliabilityCalibration(
        windows=len(windows),
        misfit=max(misfits, default=None),
        spread=max(spreads, default=None),
        agreement=min(agreements, default=None),
        novelty=known_novelty(novelties, learned),
        features=features,
        depth_error=float(np.median([one.depth_error for one in windows])),
        constant_error=float(np.median([one.constant_error for one in windows])),
        rotation_error=float(np.median(rotations)) if rotations else None,
        scale_error=float(np.median([one.scale_error for one in windows]))
        if samples.metric
        else None,
    )


@dataclass(frozen=True)
class _ViewWindow:
    checks: MapChecks
    novelty: float | None
    depth_error: float
    constant_error: float
    rotation_error: float | None
    scale_error: float


def windows_of(views: int) -> list[range]:
    """Windows of a sample: all views, a few neighbors at either end, and a few spread ones."""
    few = min(_FEW_VIEWS, views)
    found = [range(views), range(few), range(views - few, views), range(0, views, views // few)]
    return list(dict.fromkeys(found))


def _spread(samples: dict[str, int], most: int) -> list[tuple[str, int]]:
    """At most so many samples, evenly spread."""
    items = list(samples.items())
    chosen = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[index] for index in chosen]


def _training_features(student: Student, samples: CalibrationSamples) -> FeatureStatistics | None:
    chosen = _spread(samples.train, _FEATURE_IMAGES)
    each = max(1, _FEATURE_IMAGES // len(chosen))
    rows = []
    for name, views in chosen:
        images, _ = samples.read(name, range(0, views, max(1, -(-views // each))))
        features = student.image_features(images / 255)
        if features is None:
            return None
        rows.append(features.flatten(0, 1).cpu().numpy())
    return fit_features(np.concatenate(rows))


def known_novelty(held_out: Sequence[float], trained: Sequence[float]) -> float | None:
    """The largest novelty of held-out windows, or of training windows that are not odd ones.

    A few neighbors at the end of a walk are further off than the few held-out windows, and what the
    student was trained on is not unlike its training images. But one blurred or covered view
    among them must not let everything pass.
    """
    if not held_out:
        return None
    largest = max(held_out)
    return max(largest, min(max(trained, default=largest), _ODD * largest))


def _training_novelties(
    student: Student, samples: CalibrationSamples, features: FeatureStatistics
) -> list[float]:
    """Novelty of some windows of neighbors in the training samples, both ends of each included."""
    chosen = _spread(samples.train, _TRAINING_WINDOWS // 2)
    each = max(2, _TRAINING_WINDOWS // len(chosen))
    found = []
    for name, views in chosen:
        few = min(_FEW_VIEWS, views)
        for start in sorted(set(np.linspace(0, views - few, each).round().astype(int).tolist())):
            images, _ = samples.read(name, range(start, start + few))
            novelty = novelty_of(student, images / 255, features)
            if novelty is not None:
                found.append(novelty)
    return found


def _sample_windows(
    student: Student,
    read: ReadViews,
    name: str,
    views: int,
    features: FeatureStatistics | None,
) -> list[_ViewWindow]:
    images, targets = read(name, range(views))
    found = []
    for window in windows_of(views):
        chosen = torch.tensor(window)
        shown = TeacherTargets(  # the first of the views is the anchor
            points_local=targets.points_local[chosen],
            confidence_local=targets.confidence_local[chosen],
            confidence_global=targets.confidence_global[chosen],
            valid_mask=targets.valid_mask[chosen],
            global_from_local=reanchor(targets.global_from_local[chosen], 0),
        )
        one = _measure(student, images[chosen] / 255, shown, features)
        if one is not None:
            found.append(one)
    return found


def _measure(
    student: Student,
    images: Tensor,
    targets: TeacherTargets,
    features: FeatureStatistics | None,
) -> _ViewWindow | None:
    """Reconstruct a window; None where its maps cannot be aligned."""
    parameter = next(student.parameters())
    maps = student(images[None].to(parameter.device, parameter.dtype), host=True)
    assert isinstance(maps, PointMaps), "views of one size"
    if maps.global_map is None or maps.local_map is None:
        return None
    global_maps, local_maps = _as_arrays(maps.global_map), _as_arrays(maps.local_map)
    if not all(finite_pixels(one).any() for one in (*global_maps, *local_maps)):
        return None  # a diverging student overflows in evaluation first
    try:
        aligned = [
            align_local_map(global_map, local_map)
            for global_map, local_map in zip(global_maps, local_maps, strict=True)
        ]
    except GeometryError:
        return None
    depth_error, constant_error = _depth_errors(local_maps, targets)
    if depth_error is None or constant_error is None:
        return None
    return _ViewWindow(
        checks=check_maps(aligned, global_maps),
        novelty=None if features is None else novelty_of(student, images, features),
        depth_error=depth_error,
        constant_error=constant_error,
        rotation_error=_rotation_error(aligned, targets),
        scale_error=_scale_error(aligned, local_maps, targets),
    )


def _as_arrays(maps: PointMap[Tensor]) -> list[Map]:
    points, confidence = maps.points[0].float().numpy(), maps.confidence[0].float().numpy()
    return [PointMap(*one) for one in zip(points, confidence, strict=True)]


def _depth_errors(
    maps: Sequence[Map], targets: TeacherTargets
) -> tuple[float | None, float | None]:
    """Median relative errors of the student's depth and of a constant one, over all views."""
    errors, constant = [], []
    for one, points, mask in zip(maps, targets.points_local, targets.valid_mask, strict=True):
        known = mask.numpy() & (points[..., 2].numpy() > 0)
        if not known.any():
            continue
        depth, truth = one.points[..., 2][known], points[..., 2].numpy()[known]
        ratio = depth / truth
        errors.append(np.median(np.abs(ratio / np.median(ratio) - 1)))
        constant.append(np.median(np.abs(np.median(truth) / truth - 1)))
    if not errors:
        return None, None
    return float(np.median(errors)), float(np.median(constant))


def _scale_error(
    aligned: Sequence[AlignedMap], maps: Sequence[Map], targets: TeacherTargets
) -> float:
    """Relative error of lengths in the world, if the student's are those of the teacher."""
    ratios = []
    for one, own, points, mask in zip(
        aligned, maps, targets.points_local, targets.valid_mask, strict=True
    ):
        if mask.any():
            mine, true = (
                np.median(np.linalg.norm(each[mask.numpy()], axis=-1))
                for each in (own.points, points.numpy())
            )
            scale = float(scale_of(torch.from_numpy(one.world_from_local)))
            ratios.append(scale * mine / true)
    return float(abs(np.median(ratios) - 1))


def _rotation_error(aligned: Sequence[AlignedMap], targets: TeacherTargets) -> float | None:
    """Median error of relative rotations in degrees; None where there are no two known poses."""
    truth = targets.global_from_local.double()
    if len(truth) < 2 or torch.equal(truth, truth[:1].expand_as(truth)):
        return None  # samples without poses store the identity
    found = torch.from_numpy(np.stack([one.world_from_local for one in aligned])).double()
    return float(pair_errors(rigid_of(found), rigid_of(truth)).rotation.nanmedian())
