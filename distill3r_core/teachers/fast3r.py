"""The teacher Fast3R (arXiv:2501.13928), native, on its official weights."""

import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from distill3r_core.errors import ConfigError, RequestError
from distill3r_core.io.checksums import file_hash
from distill3r_core.io.images.teacher_fit import DUST3R_FIT
from distill3r_core.nn.progress import Stretch
from distill3r_core.nn.view_codes import (
    TABLE_ROWS,
    random_view_numbers,
    sequential_view_numbers,
)
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.teachers.base import prepare_view
from distill3r_core.teachers.fast3r_files import load_network, weight_file
from distill3r_core.teachers.fast3r_network import HEAD_CHUNK, Fast3R
from distill3r_core.teachers.weights import HUB_FOLDERS
from distill3r_core.types import PreparedView, RawMaps, View

PRECISIONS = ("auto", "float32", "float16", "bfloat16")
VIEW_CODES = ("config", "sequential", "random")

THRESHOLD = 0.3  # on confidence - 1 (arXiv:2602.00865, equation 1)
# On a CPU the memory of a head at full resolution is what counts; the numbers are the same.
HEADS_AT_ONCE = {"cuda": HEAD_CHUNK}


class Fast3RTeacher:
    """Local and global point maps of many views, of unknown scale.

    Args:
        network: In eval mode, on its device.
        weights: The file it came from, for its hash.
        precision: Of the forward pass, one of `PRECISIONS`: "auto" is the original's autocast to
            float16 on a GPU, and float32 elsewhere.
        view_codes: How views are numbered, one of `VIEW_CODES`: "config" as the weights'
            configuration says.
        seed: Of random numbers, together with the sample's name: a sample gets the same ones
            in every run.
    """

    name = "fast3r"
    licenses = (HUB_FOLDERS["fast3r"].license,)
    max_views = TABLE_ROWS
    threshold = THRESHOLD
    metric = False

    def __init__(
        self,
        network: Fast3R,
        *,
        weights: Path | None = None,
        precision: str = "auto",
        view_codes: str = "config",
        seed: int = 0,
    ) -> None:
        self.network = network
        self.fit = replace(DUST3R_FIT, multiple=network.config.patch_size)
        self.seed = seed
        self._weights = weights
        self._hash: str | None = None
        self._view_codes = view_codes
        self._random = network.config.random_view_codes
        if view_codes != "config":
            self._random = view_codes == "random"
        self._precision = precision
        # Views that go through a head at once; where memory runs out it may be halved, for views
        # do not see each other there.
        self.views_at_once = HEADS_AT_ONCE.get(network.fusion.codes.device.type, 1)

    @property
    def weights_hash(self) -> str | None:
        """Of the weight file, read when it is first asked for; None for a network without one."""
        if self._hash is None and self._weights is not None:
            self._hash = file_hash(self._weights)
        return self._hash

    @property
    def settings(self) -> Mapping[str, Any]:
        """Seed, view codes and precision as they were asked for."""
        return {"seed": self.seed, "view_codes": self._view_codes, "precision": self._precision}

    def prepare(self, view: View) -> PreparedView:
        """Long edge to 512, then cropped to whole patches; portrait stays portrait."""
        return prepare_view(view, self.fit)

    @torch.inference_mode()
    def predict(
        self, views: Sequence[PreparedView], *, on_progress: StepCallback = ignore_steps
    ) -> RawMaps:
        """All views in one pass.

        Raises:
            RequestError: More views than the network can tell apart.
        """
        if len(views) > TABLE_ROWS:
            raise RequestError(f"Fast3R sees at most {TABLE_ROWS} views at once, not {len(views)}")
        device = self.network.fusion.codes.device
        images = [(2 * view.image[None] - 1).to(device) for view in views]
        with self._autocast(device):
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
        seed = zlib.crc32(f"{self.seed}/{views[0].sample}".encode())
        return random_view_numbers(1, len(views), torch.Generator().manual_seed(seed))

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        precision = self._precision
        if precision == "auto":
            precision = "float16" if device.type == "cuda" else "float32"
        if precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, dtype=getattr(torch, precision))


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


def build_fast3r(
    weights: Path,
    device: torch.device,
    *,
    precision: str = "auto",
    view_codes: str = "config",
    seed: int = 0,
) -> Fast3RTeacher:
    """The teacher of a folder of weights; see `load_network` and `Fast3RTeacher`.

    Raises:
        WeightsError: A file is missing, damaged or not Fast3R's.
        ConfigError: No such precision or view codes.
    """
    for name, value, known in (
        ("precision", precision, PRECISIONS),
        ("view_codes", view_codes, VIEW_CODES),
    ):
        if value not in known:
            raise ConfigError(f"{name} {value!r} is unknown", hint=f"known: {', '.join(known)}")
    # The original's attention is in bfloat16 on a GPU whatever surrounds it.
    dtype = torch.bfloat16 if device.type == "cuda" else None
    network = load_network(weights, device=device, dtype=dtype)
    return Fast3RTeacher(
        network,
        weights=weight_file(weights),
        precision=precision,
        view_codes=view_codes,
        seed=seed,
    )
