"""The teacher Fast3R (arXiv:2501.13928), native, on its official weights."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from distill3r_core import config
from distill3r_core.errors import RequestError
from distill3r_core.io.images.teacher_fit import DUST3R_FIT
from distill3r_core.io.published_weights import PublishedWeights, spatial_bench
from distill3r_core.nn.progress import Stretch
from distill3r_core.nn.view_codes import (
    TABLE_ROWS,
    random_view_numbers,
    sequential_view_numbers,
)
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.teachers.fast3r_cost import COST, size_of_config
from distill3r_core.teachers.fast3r_files import CONFIG, WEIGHTS, load_network, weight_file
from distill3r_core.teachers.fast3r_network import HEAD_CHUNK, Fast3R
from distill3r_core.teachers.loaded_teacher import LoadedTeacher
from distill3r_core.teachers.multiview import Precision, autocast
from distill3r_core.teachers.record import TeacherRecord
from distill3r_core.types import PreparedView, RawMaps

PUBLISHED = PublishedWeights(
    "fast3r",
    files=(WEIGHTS, CONFIG),
    megabytes=2590,
    license="FAIR Noncommercial Research License",
    repo="jedyang97/Fast3R_ViT_Large_512",
    commercial="no",
    parameters=647_551_368,
    figure=spatial_bench(0.392, 0.260),
)
THRESHOLD = 0.3  # on confidence - 1 (arXiv:2602.00865, equation 1)
# On a CPU the memory of a head at full resolution is what counts; the numbers are the same.
HEADS_AT_ONCE = {"cuda": HEAD_CHUNK}


@checked_dataclass(frozen=True, config=config.STRICT)
class Fast3RSettings:
    """Settings of the teacher `fast3r`.

    Args:
        precision: Precision of the forward pass. "auto" is the original's autocast to float16 on a
            GPU, and float32 elsewhere.
        view_codes: How views are numbered; "config": as the weights' configuration says.
        seed: Seed of random view numbers, together with the sample's name: a sample gets the same
            ones in every run.
    """

    precision: Precision = "auto"
    view_codes: Literal["config", "sequential", "random"] = "config"
    seed: int = Field(default=0, ge=0)


class Fast3RTeacher(LoadedTeacher):
    """Local and global point maps of many views, of unknown scale.

    Args:
        network: The network in evaluation mode, on its device.
        settings: See `Fast3RSettings`.
        weights: The file that the network was loaded from, for its hash.
    """

    name = "fast3r"
    licenses = (PUBLISHED.license,)
    max_views = TABLE_ROWS
    threshold = THRESHOLD
    metric = False

    def __init__(
        self,
        network: Fast3R,
        settings: Fast3RSettings = Fast3RSettings(),
        *,
        weights: Path | None = None,
    ) -> None:
        fit = replace(DUST3R_FIT, multiple=network.config.patch_size)
        super().__init__(fit, settings, weights)
        self.network = network
        self._random = network.config.random_view_codes
        if settings.view_codes != "config":
            self._random = settings.view_codes == "random"
        # Views that go through a head at once; where memory runs out it may be halved, for views
        # do not see each other there.
        self.views_at_once = HEADS_AT_ONCE.get(network.fusion.codes.device.type, 1)

    @torch.inference_mode()
    def predict(
        self, views: Sequence[PreparedView], *, on_progress: StepCallback = ignore_steps
    ) -> RawMaps:
        """All views in one pass.

        Raises:
            RequestError: More views than the network can tell apart.
            OutOfMemoryError: The pass would not fit into the memory of a CPU.
        """
        if len(views) > TABLE_ROWS:
            raise RequestError(f"Fast3R sees at most {TABLE_ROWS} views at once, not {len(views)}")
        device = self.network.fusion.codes.device
        COST.require_memory(
            size_of_config(self.network.config),
            len(views),
            max(((v.image.shape[1], v.image.shape[2]) for v in views), key=math.prod),
            settings=self._settings,
            device=device,
            name=self.name,
        )
        images = [(2 * view.image[None] - 1).to(device) for view in views]
        precision = self._settings.precision
        if precision == "auto" and device.type == "cuda":
            precision = "float16"  # as the original
        with autocast(precision, device):
            maps = self.network(
                images,
                self._numbers(views).to(device),
                head_chunk=self.views_at_once,
                on_progress=_PassProgress(on_progress, self.network, len(views)),
            )
        return RawMaps(
            points_local=[one.local_maps.points[0].cpu() for one in maps],
            confidence_local=[one.local_maps.confidence[0].cpu() for one in maps],
            confidence_global=[one.global_maps.confidence[0].cpu() for one in maps],
            points_global=[one.global_maps.points[0].cpu() for one in maps],
        )

    def _numbers(self, views: Sequence[PreparedView]) -> Int[Tensor, "1 N"]:
        """Rows of the code table; random ones are a matter of the sample's name and the seed."""
        if not self._random:
            return sequential_view_numbers(1, len(views))
        seed = zlib.crc32(f"{self._settings.seed}/{views[0].sample}".encode())
        return random_view_numbers(1, len(views), torch.Generator().manual_seed(seed))


class _PassProgress:
    """Report the counts of a forward pass as steps of phases whose length is known."""

    def __init__(self, on_progress: StepCallback, network: Fast3R, views: int) -> None:
        self._on_progress = on_progress
        blocks = network.config.decoder_depth
        self._totals: dict[Stretch, int] = {"encoder": views, "fusion": blocks, "heads": 2 * views}
        self._done = dict.fromkeys(self._totals, 0)

    def __call__(self, stretch: Stretch, count: int) -> None:
        self._done[stretch] += count
        self._on_progress(stretch, self._done[stretch], self._totals[stretch])


def _build(settings: Fast3RSettings, weights: Path | None, device: torch.device) -> Fast3RTeacher:
    assert weights is not None, "the record names weights"
    # The original's attention is in bfloat16 on a GPU whatever surrounds it.
    dtype = torch.bfloat16 if device.type == "cuda" else None
    network = load_network(weights, device=device, dtype=dtype)
    return Fast3RTeacher(network, settings, weights=weight_file(weights))


FAST3R = TeacherRecord(
    name=Fast3RTeacher.name,
    build=_build,
    licenses=Fast3RTeacher.licenses,
    settings=Fast3RSettings,
    weights=PUBLISHED,
    fit=DUST3R_FIT,
    threshold=THRESHOLD,
    cost=COST,
)
