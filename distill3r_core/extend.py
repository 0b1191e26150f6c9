"""Public names for code that adds to distill3r: registries, records and the types they speak in.

A plugin file (`--plugin FILE.py`) and a package with entry points import from here. Names are
loaded when they are first used. docs/extending.md shows one addition of each kind.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill3r_core import plugins

if TYPE_CHECKING:
    from distill3r_core.config import STRICT
    from distill3r_core.data.layouts import (
        LAYOUTS,
        Dataset,
        DepthFile,
        Frame,
        Layout,
        Note,
        Refused,
        Rig,
        Scene,
        marked_dataset,
    )
    from distill3r_core.errors import ImageError
    from distill3r_core.evaluation.baselines import BASELINES, Baseline
    from distill3r_core.evaluation.baselines.training_frames import TrainingFrames
    from distill3r_core.evaluation.metric_record import Comparison, Metric, MetricUnit
    from distill3r_core.evaluation.metrics import METRICS
    from distill3r_core.evaluation.predictions import Unpredicted, maps_of
    from distill3r_core.evaluation.protocols import PROTOCOLS, Protocol
    from distill3r_core.evaluation.protocols.alignments import Alignment
    from distill3r_core.evaluation.protocols.frame_rules import NumberedFrames, Window
    from distill3r_core.evaluation.truth import Truth
    from distill3r_core.io.images.depth_codecs import DEPTH_CODECS
    from distill3r_core.io.images.teacher_fit import TeacherFit
    from distill3r_core.io.published_weights import PublishedWeights
    from distill3r_core.losses.loss_term import FeatureRequest, LossTerm, TermInputs, TermOptions
    from distill3r_core.losses.terms import LOSS_TERMS
    from distill3r_core.models.families import FAMILIES, Family
    from distill3r_core.models.family import CheckpointFormat, Cost, Initializer, ViewLimits
    from distill3r_core.models.multiview.spec import MultiviewSpec
    from distill3r_core.models.presets import PRESETS, Preset
    from distill3r_core.models.spec import StudentSpec
    from distill3r_core.models.student import Student
    from distill3r_core.prediction import Predictor, ignore_steps
    from distill3r_core.reconstruction.export import Export
    from distill3r_core.reconstruction.formats import FORMATS, ExportFormat
    from distill3r_core.teachers.base import Teacher, prepare_view
    from distill3r_core.teachers.registry import TEACHERS, TeacherNeeds, TeacherRecord
    from distill3r_core.types import (
        PointMap,
        PointMaps,
        PreparedView,
        RawMaps,
        TeacherTargets,
        View,
    )

_NAMES = {
    "distill3r_core.config": ("STRICT",),
    "distill3r_core.data.layouts": (
        "LAYOUTS",
        "Dataset",
        "DepthFile",
        "Frame",
        "Layout",
        "Note",
        "Refused",
        "Rig",
        "Scene",
        "marked_dataset",
    ),
    "distill3r_core.errors": ("ImageError",),
    "distill3r_core.evaluation.protocols.alignments": ("Alignment",),
    "distill3r_core.evaluation.baselines": ("BASELINES", "Baseline"),
    "distill3r_core.evaluation.protocols.frame_rules": ("NumberedFrames", "Window"),
    "distill3r_core.evaluation.metric_record": ("Comparison", "Metric", "MetricUnit"),
    "distill3r_core.evaluation.metrics": ("METRICS",),
    "distill3r_core.evaluation.predictions": ("Unpredicted", "maps_of"),
    "distill3r_core.evaluation.protocols": ("PROTOCOLS", "Protocol"),
    "distill3r_core.evaluation.baselines.training_frames": ("TrainingFrames",),
    "distill3r_core.evaluation.truth": ("Truth",),
    "distill3r_core.io.images.depth_codecs": ("DEPTH_CODECS",),
    "distill3r_core.io.images.teacher_fit": ("TeacherFit",),
    "distill3r_core.io.published_weights": ("PublishedWeights",),
    "distill3r_core.losses.loss_term": ("FeatureRequest", "LossTerm", "TermInputs", "TermOptions"),
    "distill3r_core.losses.terms": ("LOSS_TERMS",),
    "distill3r_core.models.families": ("FAMILIES", "Family"),
    "distill3r_core.models.family": ("CheckpointFormat", "Cost", "Initializer", "ViewLimits"),
    "distill3r_core.models.multiview.spec": ("MultiviewSpec",),
    "distill3r_core.models.presets": ("PRESETS", "Preset"),
    "distill3r_core.models.spec": ("StudentSpec",),
    "distill3r_core.models.student": ("Student",),
    "distill3r_core.prediction": ("Predictor", "ignore_steps"),
    "distill3r_core.reconstruction.export": ("Export",),
    "distill3r_core.reconstruction.formats": ("FORMATS", "ExportFormat"),
    "distill3r_core.teachers.base": ("Teacher", "prepare_view"),
    "distill3r_core.teachers.registry": ("TEACHERS", "TeacherNeeds", "TeacherRecord"),
    "distill3r_core.types": (
        "PointMap",
        "PointMaps",
        "PreparedView",
        "RawMaps",
        "TeacherTargets",
        "View",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
_REGISTRIES = [name for name in _HOMES if name.isupper() and name != "STRICT"]

__all__ = [
    "BASELINES",
    "DEPTH_CODECS",
    "FAMILIES",
    "FORMATS",
    "LAYOUTS",
    "LOSS_TERMS",
    "METRICS",
    "PRESETS",
    "PROTOCOLS",
    "STRICT",
    "TEACHERS",
    "Alignment",
    "Baseline",
    "CheckpointFormat",
    "Comparison",
    "Cost",
    "Dataset",
    "DepthFile",
    "Export",
    "ExportFormat",
    "Family",
    "FeatureRequest",
    "Frame",
    "ImageError",
    "Initializer",
    "Layout",
    "LossTerm",
    "Metric",
    "MetricUnit",
    "MultiviewSpec",
    "Note",
    "NumberedFrames",
    "PointMap",
    "PointMaps",
    "Predictor",
    "PreparedView",
    "Preset",
    "Protocol",
    "PublishedWeights",
    "RawMaps",
    "Refused",
    "Rig",
    "Scene",
    "Student",
    "StudentSpec",
    "Teacher",
    "TeacherFit",
    "TeacherNeeds",
    "TeacherRecord",
    "TeacherTargets",
    "TermInputs",
    "TermOptions",
    "TrainingFrames",
    "Truth",
    "Unpredicted",
    "View",
    "ViewLimits",
    "Window",
    "ignore_steps",
    "load_plugins",
    "maps_of",
    "marked_dataset",
    "prepare_view",
]


def load_plugins(paths: Sequence[str | Path]) -> None:
    """Load plugin files, each once.

    Args:
        paths: Python files, in the order in which they are loaded.

    Raises:
        InputMissingError: One of them is not there.
        ConfigError: One of them cannot be loaded; names the file and the line.
    """
    if paths:
        for name in _REGISTRIES:  # their built-in entries first: see `plugins.load`
            __getattr__(name)
    for path in paths:
        plugins.load(Path(path))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
