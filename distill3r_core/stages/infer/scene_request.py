"""What is asked of `infer`, looked up, and what of it makes a result another one."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from distill3r_core import config
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.reconstruction.cameras.camera_options import CameraOptions
from distill3r_core.reconstruction.cameras.known_positions import KnownPositions
from distill3r_core.reconstruction.head_options import WorldOptions
from distill3r_core.reconstruction.loaded_views import Fitting, LoadedView
from distill3r_core.reconstruction.prediction.load_model import LoadedModel
from distill3r_core.reconstruction.reconstruct import fitting_of
from distill3r_core.stages.infer.settings import InferSettings

# What shapes a cloud and nothing else.
_OF_CLOUDS = ("cloud", "poses", "pnp", "refine", "conf", "edges", "voxel", "max_points")


@dataclass(frozen=True)
class SceneRequest:
    """What is asked for, looked up: the same for every scene.

    Args:
        settings: The settings as given.
        model: The model that runs.
        other: The model that it is compared with; None: none.
        options: How views come into one world; None where they do not.
        cameras: What is known about the cameras.
        known: What makes lengths metric.
        overwrite: Replace another result in the folder that was named.
    """

    settings: InferSettings
    model: LoadedModel
    other: LoadedModel | None
    options: WorldOptions | None
    cameras: CameraOptions
    known: KnownPositions | None
    overwrite: bool

    @property
    def fit(self) -> Fitting:
        """How images become the model's input."""
        fit, size = fitting_of(self.model.predictor), self.settings.size
        if size is None:
            return fit
        assert isinstance(fit, ImageFit), "another model's size cannot be set"
        return replace(fit, size=size, resized=None, patch=None)


def identity_of(views: Sequence[LoadedView], request: SceneRequest) -> dict[str, Any]:
    """All that changes the result."""
    settings, model = request.settings, request.model
    plain = config.as_plain(settings)
    for name in (
        "inputs", "model", "output", "ply", "size", "each", "device", "scale_from", "compile",
        "strict", "intrinsics", "compare",
        "teacher",  # part of what the models are
    ):  # fmt: skip
        del plain[name]
    plain |= {"format": sorted(settings.formats), "precision": model.precision}
    if request.options is None:  # without a world there is no cloud
        for name in _OF_CLOUDS:
            del plain[name]
    else:  # what was left to the heads
        plain |= {"cloud": request.options.cloud, "poses": request.options.poses}
        plain |= {"refine": {None: "auto", True: "yes", False: "no"}[request.options.refine]}
    # Results older than these have none of them.
    for name, usual in (
        ("head", "both"),
        ("pnp", False),
        ("refine", "no"),
        ("ignore_masks", False),
        ("keep_exif", False),
        ("shared_camera", False),
    ):
        if plain.get(name) == usual:
            del plain[name]
    if request.cameras.intrinsics is not None:
        plain |= {"intrinsics": request.cameras.intrinsics.tolist()}
    digest = hashlib.blake2b(digest_size=16)
    paths = list(dict.fromkeys(view.path for view in views if view.path is not None))
    for path in paths:
        digest.update(os.fsencode(path.name))
        with path.open("rb") as data:
            digest.update(hashlib.file_digest(data, hashlib.blake2b).digest())
    for view in views:
        if view.mask is not None:
            digest.update(view.mask.tobytes())
    compared = {} if request.other is None else {"compare": request.other.identity}
    return {
        **compared,
        "settings": plain,
        "known": None if request.known is None else request.known.as_plain(),
        "fit": fit.as_plain() if isinstance(fit := request.fit, ImageFit) else model.label,
        "model": model.identity,
        "inputs": f"{len(paths)} files, {digest.hexdigest()}",
    }
