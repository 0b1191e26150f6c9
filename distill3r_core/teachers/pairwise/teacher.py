"""The teachers `mast3r` and `dust3r-...`: pairs of views, and the alignment of all of them."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from distill3r_core import config
from distill3r_core.geometry.cameras import invert_rigid, unproject
from distill3r_core.io.images.teacher_fit import DUST3R_224_FIT, DUST3R_FIT, TeacherFit
from distill3r_core.io.pair_files import head_counts
from distill3r_core.io.published_weights import PublicFigure, PublishedWeights, spatial_bench
from distill3r_core.nn.pairs.official_names import NAMES
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.teachers.base import at_patch_multiples
from distill3r_core.teachers.loaded_teacher import LoadedTeacher
from distill3r_core.teachers.multiview import THRESHOLD, Precision, autocast
from distill3r_core.teachers.official_files import (
    fill_network,
    find_weight_file,
    read_checkpoint,
    refuse_foreign_weights,
)
from distill3r_core.teachers.pairwise.cost import cost_of
from distill3r_core.teachers.pairwise.graph import check_graph, pairs_of
from distill3r_core.teachers.pairwise.names import read_state, size_of
from distill3r_core.teachers.pairwise.network import PairMaps, PairNetwork, PairSize, ViewTokens
from distill3r_core.teachers.pairwise.optimization import STEPS, Aligned, align
from distill3r_core.teachers.pairwise.predictions import PairPredictions, collect
from distill3r_core.teachers.pairwise.raw_pairs import RecentPairs, pair_maps
from distill3r_core.teachers.pairwise.storage import ViewDetails, plan_storage
from distill3r_core.teachers.pairwise.tree import place_by_tree
from distill3r_core.teachers.pairwise.two_views import place_two
from distill3r_core.teachers.record import TeacherNeeds, TeacherRecord
from distill3r_core.types import AlignmentFacts, PreparedView, RawMaps

_log = logging.getLogger(__name__)
FILES = ("model.safetensors",)
LICENSE = "CC BY-NC-SA 4.0"
ENCODER_LAYER = "enc_norm"
_ENCODED_AT_ONCE = 8  # images whose features are wanted
MAST3R_LICENSE = "CC BY-NC-SA 4.0, with the terms of its training data (no commercial entity)"


@checked_dataclass(frozen=True, config=config.STRICT)
class PairwiseSettings:
    """Settings of the teachers that see two views at once.

    Args:
        precision: Precision of encoder and decoder. "auto" is bfloat16 on a GPU, float32
            elsewhere; the heads are in float32 always.
        graph: Which pairs are predicted, in both orders: complete, swin-K, logwin-K or oneref.
        align_steps: Steps of the global alignment of three and more views.
        pairs: Predict each pair for itself, as a sample of two views, and align nothing.
    """

    precision: Precision = "auto"
    graph: Annotated[str, config.reads(check_graph)] = "complete"
    align_steps: int = Field(default=STEPS, ge=0)
    pairs: bool = False


class PairwiseTeacher(LoadedTeacher):
    """Predict pairs of views, then align all of them in one world.

    Args:
        record: What is known about the teacher.
        network: The network, in evaluation mode on its device.
        settings: See `PairwiseSettings`.
        weights: The file that the network was loaded from, for its hash.
    """

    max_views = None
    threshold = THRESHOLD

    def __init__(
        self,
        record: TeacherRecord,
        network: PairNetwork,
        settings: PairwiseSettings,
        *,
        weights: Path | None = None,
    ) -> None:
        fit = replace(record.fit, multiple=network.size.patch_size)
        super().__init__(fit, settings, weights)
        self.name, self.licenses, self.metric = record.name, record.licenses, record.metric
        self.network = network
        self._cost = cost_of(network.size)
        self._recent = RecentPairs(self._encode_view, self._decode)

    @torch.inference_mode()
    def predict(
        self, views: Sequence[PreparedView], *, on_progress: StepCallback = ignore_steps
    ) -> RawMaps:
        """All pairs of the graph, aligned; two views in closed form, or as they are (`pairs`).

        Raises:
            GeometryError: The pairs do not determine where the views are.
            OutOfMemoryError: Their predictions do not fit into memory.
        """
        if self._settings.pairs:
            one, two = views
            found = pair_maps(self._recent, one, two)
            on_progress("pairs", 1, 1)
            return found
        sizes = [(view.image.shape[1], view.image.shape[2]) for view in views]
        edges = pairs_of(len(views), self._settings.graph) if len(views) > 1 else [(0, 0)]
        storage = plan_storage(len(edges), sizes, beside=self._beside(sizes))
        tokens = self._encode(views, on_progress)
        if len(views) == 1:
            return _single(self._decode(tokens[0], tokens[0])[0])
        details = ViewDetails(sizes) if storage.stride > 1 else None
        maps = []
        for done, (i, j) in enumerate(edges):
            on_progress("pairs", done, len(edges))
            one, two = self._decode(tokens[i], tokens[j])
            if details is not None:
                details.add_own(i, one.points[0], one.confidence[0])
                details.add(j, two.confidence[0])
            maps.append(
                tuple(
                    storage.kept(part[0])
                    for part in (one.points, two.points, one.confidence, two.confidence)
                )
            )
        on_progress("pairs", len(edges), len(edges))
        del tokens
        # What inference made cannot be in a graph of gradients.
        with torch.inference_mode(False):
            kept = [storage.size(size) for size in sizes]
            pairs = collect(edges, kept, maps, dtype=storage.dtype)
            del maps
            aligned = self._align(pairs, storage.center, on_progress)
            confidence = pairs.view_confidence().float()
            if details is not None:
                aligned, confidence = details.restore(aligned, storage)
            return to_raw_maps(aligned, sizes, confidence, metric=self.metric)

    def _beside(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Bytes that the network takes of the machine's memory beside the maps of pairs."""
        device = self.network.decoder.norm.weight.device
        if device.type != "cpu":
            return 0
        largest = max(sizes, key=math.prod)
        taken = self._cost.memory(
            self.network.size, len(sizes), largest, settings=self._settings, device=device
        )
        return taken.total - taken.outputs

    def _encode(self, views: Sequence[PreparedView], on_progress: StepCallback) -> list[ViewTokens]:
        """Each view once, however many pairs it is in."""
        tokens = []
        for done, view in enumerate(views):
            on_progress("encoder", done, len(views))
            tokens.append(self._encode_view(view))
        on_progress("encoder", len(views), len(views))
        return tokens

    @property
    def feature_channels(self) -> Mapping[str, int]:
        """See `FeatureTeacher`: the encoder's tokens behind its last norm."""
        return {ENCODER_LAYER: self.network.size.width}

    def encode_features(
        self, images: Float[Tensor, "B N 3 H W"], layer: str
    ) -> Float[Tensor, "B N h w C"]:
        """Tokens of images as a student sees them, in float32; see `FeatureTeacher`.

        Sides that are no multiples of the patch are resized to the nearest one.
        """
        assert layer == ENCODER_LAYER, layer
        flat, grid = at_patch_multiples(images.flatten(0, 1), self.network.size.patch_size)
        device = self.network.decoder.norm.weight.device
        with torch.no_grad(), autocast(self._settings.precision, device):
            parts = [
                self.network.encode((2 * part - 1).to(device)).tokens.float()
                for part in flat.split(_ENCODED_AT_ONCE)
            ]
        return torch.cat(parts).unflatten(1, grid).unflatten(0, images.shape[:2])

    def _encode_view(self, view: PreparedView) -> ViewTokens:
        device = self.network.decoder.norm.weight.device
        with autocast(self._settings.precision, device):
            return self.network.encode((2 * view.image[None] - 1).to(device))

    def _decode(self, one: ViewTokens, two: ViewTokens) -> tuple[PairMaps, PairMaps]:
        with autocast(self._settings.precision, one.tokens.device):
            return self.network.decode(one, two)

    def _align(self, pairs: PairPredictions, center: float, on_progress: StepCallback) -> Aligned:
        if pairs.views == 2:
            return place_two(pairs, center=center)
        start = place_by_tree(pairs, center=center, on_progress=on_progress)
        if start.unplaced:
            _log.warning("%d of %d views could not be placed", len(start.unplaced), pairs.views)
        steps = self._settings.align_steps
        aligned = align(pairs, start, steps=steps, center=center, on_progress=on_progress)
        _log.info("aligned %d pairs: mean weighted distance %.3g", len(pairs.edges), aligned.loss)
        return aligned


def to_raw_maps(
    aligned: Aligned,
    sizes: Sequence[tuple[int, int]],
    confidence: Float[Tensor, "N P"],
    *,
    metric: bool,
) -> RawMaps:
    """Aligned views in the frame of the first one's camera.

    Args:
        aligned: Views in one world.
        sizes: Rows and columns of each view.
        confidence: Confidence of each view's pixels, flat as its depth.
        metric: The pairs are in meters: so is the result, by the median of their scales.
    """
    unit = 1 / float(aligned.scales.median()) if metric else 1.0
    poses = aligned.world_from_cam.double().clone()
    poses[:, :3, 3] *= unit
    intrinsics = torch.eye(3).repeat(len(sizes), 1, 1)
    depths, confidences, masks = [], [], []
    for view, (rows, columns) in enumerate(sizes):
        intrinsics[view, 0, 0] = intrinsics[view, 1, 1] = aligned.focals[view]
        intrinsics[view, :2, 2] = torch.tensor([columns / 2, rows / 2])
        shape, count = (rows, columns), rows * columns
        depths.append(unit * aligned.depth[view, :count].reshape(shape))
        confidences.append(confidence[view, :count].reshape(shape))
        masks.append(torch.full(shape, view not in aligned.unplaced))
    return RawMaps(
        points_local=[unproject(depth, k) for depth, k in zip(depths, intrinsics, strict=True)],
        confidence_local=confidences,
        confidence_global=confidences,
        valid_mask=masks,
        global_from_local=(invert_rigid(poses[:1]) @ poses)[:, :3].float(),
        intrinsics=intrinsics,
        alignment=AlignmentFacts(residual=aligned.loss, unplaced=len(aligned.unplaced)),
    )


def _single(maps: PairMaps) -> RawMaps:
    """One view, paired with itself."""
    points: Float[Tensor, "H W 3"] = maps.points[0].cpu()
    confidence = maps.confidence[0].cpu()
    return RawMaps(
        points_local=[points],
        confidence_local=[confidence],
        confidence_global=[confidence],
        global_from_local=torch.eye(4)[None, :3],
    )


def load_pairwise(weights: Path, device: torch.device) -> PairNetwork:
    """The network of a hub folder or a file; the shapes of its tensors give its size.

    Numbers of attention heads are those of the description beside the tensors (`config.json`, or
    the constructor's string in a pickled checkpoint), and 64 channels a head without one.

    Raises:
        WeightsError: A file is missing, damaged or not one of DUSt3R or MASt3R.
    """
    file = find_weight_file(weights, FILES)
    tensors, rest = read_checkpoint(file, device)
    state = read_state(tensors)
    heads, decoder_heads = head_counts(file, rest)
    try:
        size = size_of(state, heads=heads, decoder_heads=decoder_heads)
    except KeyError as error:
        raise refuse_foreign_weights(file, "DUSt3R or MASt3R", error) from error
    network = fill_network(state, lambda: PairNetwork(size), NAMES, source=str(file))
    assert isinstance(network, PairNetwork)
    return network


def _record(
    weights: PublishedWeights, size: PairSize, *, fit: TeacherFit = DUST3R_FIT, metric: bool = False
) -> TeacherRecord:
    def build(settings: Any, folder: Path | None, device: torch.device) -> PairwiseTeacher:
        assert folder is not None, "the record names weights"
        network = load_pairwise(folder, device)
        return PairwiseTeacher(record, network, settings, weights=find_weight_file(folder, FILES))

    record = TeacherRecord(
        name=weights.name,
        build=build,
        licenses=(weights.license,),
        settings=PairwiseSettings,
        weights=weights,
        fit=fit,
        needs=TeacherNeeds(pairs=True, minutes_per_sample=1.0),
        metric=metric,
        threshold=THRESHOLD,
        depth_maps=True,
        confidence="as the network predicts it; of aligned views the highest of all their pairs",
        cost=cost_of(size),
    )
    return record


def _published(
    name: str,
    repo: str,
    parameters: int,
    *,
    license: str = LICENSE,
    figure: PublicFigure | None = None,
) -> PublishedWeights:
    return PublishedWeights(
        name,
        FILES,
        round(4 * parameters / 1e6),
        license,
        repo=f"naver/{repo}",
        commercial="no",
        parameters=parameters,
        figure=figure,
    )


_LINEAR, _LINEAR_PARAMETERS = PairSize(head="linear"), 532_342_784
_DUST3R = "DUSt3R_ViTLarge_BaseDecoder_"
MAST3R = _record(
    _published(
        "mast3r",
        "MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric",
        688_638_856,
        license=MAST3R_LICENSE,
        figure=spatial_bench(0.568, 0.209),
    ),
    PairSize(descriptors=24),
    metric=True,
)
DUST3R_512_DPT = _record(
    _published(
        "dust3r-512-dpt", f"{_DUST3R}512_dpt", 571_171_208, figure=spatial_bench(0.498, 0.257)
    ),
    PairSize(),
)
DUST3R_512_LINEAR = _record(
    _published("dust3r-512-linear", f"{_DUST3R}512_linear", _LINEAR_PARAMETERS), _LINEAR
)
DUST3R_224_LINEAR = _record(
    _published("dust3r-224-linear", f"{_DUST3R}224_linear", _LINEAR_PARAMETERS),
    _LINEAR,
    fit=DUST3R_224_FIT,
)
