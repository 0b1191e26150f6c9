"""Localize views by a student that has learned no scene: among its training frames.

Each view is seen in one pass with training frames that look like it, whose points in the world are
known. One robust similarity carries what the student says of these frames onto what is known of
them, and its points of the view along; the camera is PnP's on these, as for students of scenes.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill3r_core.data.loading.sample_sources import read_at
from distill3r_core.data.loading.world_points import points_in_world, world_from_anchor
from distill3r_core.errors import GeometryError
from distill3r_core.evaluation.baselines.training_frames import TrainingFrame, TrainingFrames
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.registration import fit_similarity_robust
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.models.families import family_of
from distill3r_core.models.student import Student
from distill3r_core.reconstruction.prediction.scene_pass import maps_of_coordinates, poses_by_pnp
from distill3r_core.types import PointMaps, RawMaps, ViewsInScene

REFERENCES = 7  # training frames beside a view: `small` learns from eight views at a time
_MOST_FRAMES = 1_000  # training frames of a world that are compared, spread evenly
PAIRS = 20_000  # pixels of the training frames that the similarity is fitted to, at most


@dataclass(frozen=True)
class _KnownFrames:
    """Training frames of one size whose points in a world are known.

    Args:
        worlds: `world_from_anchor` of each frame's sample.
        features: Of length 1, their mean over the frames taken away; None: the family has none.
    """

    frames: list[TrainingFrame]
    worlds: list[Float[Tensor, "3 4"]]
    features: Float[Tensor, "M D"] | None
    mean: Float[Tensor, " D"] | None


@dataclass
class LocalizedWindows:
    """Places views among the training frames of their world.

    Args:
        student: Of a family that predicts global points of several views; in evaluation mode.
        training: The frames that it was trained on.
    """

    student: Student
    training: TrainingFrames
    _known: dict[tuple[str, tuple[int, int]], _KnownFrames] = field(default_factory=dict)

    def predict(self, truth: Truth) -> RawMaps:
        """Coordinates and cameras of a sequence's views, each view by itself.

        Where no training frame is known in the sequence's world, its views have no place: `scene`
        is None, and similarities are NaN.

        Raises:
            CacheError: The place of a training sample in the world is damaged.
            ExtraMissingError: pycolmap is not installed.
        """
        known = self._known_frames(truth)
        points, confidence = [], []
        for prepared in truth.views:
            chosen = self._references(prepared.image, known)
            coordinates, trust = self._place(prepared.image, chosen, known)
            points.append(coordinates)
            confidence.append(trust)
        stacked = torch.stack(points).float()
        scene, poses = None, torch.full((len(points), 4, 4), torch.nan, dtype=torch.float64)
        if known.frames:
            poses = poses_by_pnp(stacked, truth.intrinsics)
            scene = ViewsInScene(tuple(stacked), poses)
        return maps_of_coordinates(stacked, poses, confidence, truth.intrinsics, scene=scene)

    def _known_frames(self, truth: Truth) -> _KnownFrames:
        key = (truth.world, truth.size)
        if key not in self._known:
            self._known[key] = self._find_frames(*key)
        return self._known[key]

    def _find_frames(self, world: str, size: tuple[int, int]) -> _KnownFrames:
        """The training frames that are known in a world, each image once."""
        cache, found, seen = self.training.cache, [], set[str]()
        for name in self.training.samples_in(world):
            place = world_from_anchor(cache, name)
            if place is None:
                continue
            for view, image in enumerate(cache.detail(name)["pictures"]):
                if image not in seen:
                    seen.add(image)
                    found.append((TrainingFrame(name, view), place))
        found = found[:: -(-len(found) // _MOST_FRAMES) or 1]
        frames, worlds, features = [], [], []
        for frame, place in found:
            images, _ = read_at(cache, frame.sample, [frame.view], size=self.training.size)
            if images.shape[-2:] != size:
                continue  # upright among lying ones
            frames.append(frame)
            worlds.append(place)
            features.append(self._features(images[0].float() / 255))
        if not features or features[0] is None:
            return _KnownFrames(frames, worlds, None, None)
        stacked = torch.stack([one for one in features if one is not None])
        mean = stacked.mean(0)  # what all images of a scene have in common tells none apart
        unit = torch.nn.functional.normalize(stacked - mean, dim=-1)
        return _KnownFrames(frames, worlds, unit, mean)

    def _features(self, image: Float[Tensor, "3 H W"]) -> Float[Tensor, " D"] | None:
        """Mean of the features of an image's patches."""
        with torch.inference_mode():
            found = self.student.image_features(image[None].to(self.student.device))
        return None if found is None else found[0].mean(0).double().cpu()

    def _references(self, image: Float[Tensor, "3 H W"], known: _KnownFrames) -> Int[Tensor, " R"]:
        """The known frames that a view is seen with: those like it, or some of all."""
        most = family_of(self.student.spec).views.maximum - 1
        count = min(REFERENCES, most, len(known.frames))
        if known.features is None or known.mean is None:
            return torch.linspace(0, max(len(known.frames) - 1, 0), count).round().long()
        mine = self._features(image)
        assert mine is not None, "an image has features where others have"
        return (known.features @ (mine - known.mean)).topk(count).indices

    def _place(
        self, image: Float[Tensor, "3 H W"], chosen: Int[Tensor, " R"], known: _KnownFrames
    ) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W"]]:
        """A view's points in the world, and their confidence.

        They are infinite where the training frames do not determine the similarity.
        """
        images, wanted, masks = [image[None]], [], []
        for index in chosen.tolist():
            frame = known.frames[index]
            found, targets = read_at(
                self.training.cache, frame.sample, [frame.view], size=self.training.size
            )
            images.append(found.float() / 255)
            wanted.append(points_in_world(targets, known.worlds[index]))
            masks.append(targets.valid_mask)
        # The view is the anchor, so that its own points are as exact as the student knows them,
        # and each training frame says where it is.
        batch = torch.cat(images)[None].to(self.student.device)
        with torch.inference_mode():
            maps = self.student(batch, head="global", host=True)
        assert isinstance(maps, PointMaps) and maps.global_map is not None
        points, trust = maps.global_map.points[0], maps.global_map.confidence[0]
        if not wanted:
            return points[0], trust[0]
        mask = torch.cat(masks) & points[1:].isfinite().all(-1)
        step = -(-int(mask.sum()) // PAIRS) or 1
        source, target, weights = (
            one[mask][::step].double() for one in (points[1:], torch.cat(wanted), trust[1:])
        )
        try:
            world = fit_similarity_robust(source, target, weights)
        except GeometryError:
            return torch.full_like(points[0], torch.inf), trust[0]
        return apply_similarity(world, points[0].double()), trust[0]
