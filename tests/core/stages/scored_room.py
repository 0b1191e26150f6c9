"""A room, its manifest, its cache and a student, for `eval` to score."""

from functools import partial

import torch
from posed_rooms import write_rendered_room
from saved_runs import write_run

from distill3r_core import config
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.frame_processing import Processing
from distill3r_core.evaluation.data_frames import read_test_data
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.view_truth import fit_views
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import build_student
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.report import Silent
from distill3r_core.runs.training_images import write_training_images
from distill3r_core.stages.cache import CacheSettings, build_cache
from distill3r_core.stages.evaluate import EvalSettings, evaluate
from distill3r_core.stages.manifest import ManifestSettings, build_manifest
from distill3r_core.training.settings import TrainSettings

SIZE = (28, 42)
FRAMES, HELD_OUT = 8, 3


def make_home(home):
    """A folder with a room, its manifest, its cache and a run of a student that learned nothing."""
    write_rendered_room(home / "rooms/one", 3, views=FRAMES, size=(56, 84))
    make_cache(home / "rooms", home / "data", home / "caches/teacher")
    save_run(home / "runs/tiny-001", home / "caches/teacher")


def make_cache(rooms, data, cache, **changes):
    """The manifest of rooms, with their last frames held out, and its cache."""
    build_manifest(
        ManifestSettings(
            roots=(rooms,), output=data, views=3, stride=1, val_frames=f"last:{HELD_OUT}", **changes
        )
    )
    build_cache(CacheSettings(manifest=data / "manifest.csv", output=cache, size="28x42"))


def save_run(run, cache_path, *, preset="tiny", pictures=None, resized=None):
    """A run of a student that learned nothing from a cache's training frames."""
    cache = TeacherCache(cache_path)
    if pictures is None:
        pictures = {p for name in cache.names("train") for p in cache.detail(name)["pictures"]}
    torch.manual_seed(0)
    student = build_student(preset)
    metadata = StudentMetadata(
        preset=preset,
        spec=student.spec,
        size=resized or SIZE,
        fit=ImageFit(size=SIZE, resized=resized).as_plain(),
        pictures="pictures.txt",
        processing=dict(cache.header.processing),
        settings=config.as_plain(TrainSettings(cache=cache_path)),
    )
    write_run(run, student, metadata)
    write_training_images(run / "pictures.txt", sorted(pictures))


def read_truths(root, protocol):
    """The truths of a data set at the grid of the student."""
    return read_test_data(
        root,
        layout="auto",
        protocol=PROTOCOLS[protocol],
        processing=Processing(),
        prepare=partial(fit_views, fit=ImageFit(size=SIZE)),
        trained_on=(),
        progress=Silent(),
    )


def score(*, overwrite=False, **values):
    """`evaluate` on the CPU, without COLMAP."""
    values = {"device": "cpu", "colmap": False, **values}
    settings = config.validate(EvalSettings, values, source="settings")
    return evaluate(settings, overwrite=overwrite)
