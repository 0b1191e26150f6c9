"""Samples of which a share of the pixels counts, as from a sensor that measures few points."""

import zlib
from collections.abc import Sequence

import numpy as np

from distill3r_core.cache.store import ViewBuffers
from distill3r_core.data.loading.sample_sources import SampleSource, Size


class SparseSamples:
    """A source whose valid masks are thinned out.

    Which pixels count is a function of the seed, the sample and the view: a draw of another epoch
    shows the same ones.

    Args:
        share: Share of the pixels that is kept; those that are invalid stay so.
        seed: Seed of the run.
    """

    def __init__(self, source: SampleSource, share: float, *, seed: int) -> None:
        self._source, self._share, self._seed = source, share, seed

    @property
    def planes(self) -> int:
        """Number of planes of a view, as in the source."""
        return self._source.planes

    def size_of(self, name: str) -> Size:
        """Rows and columns as in the source."""
        return self._source.size_of(name)

    def read_into(self, name: str, views: Sequence[int], buffers: ViewBuffers) -> None:
        """See `TeacherCache.read_into`."""
        self._source.read_into(name, views, buffers)
        for row, view in enumerate(views):
            rng = np.random.default_rng([self._seed, zlib.crc32(name.encode()), view])
            kept = rng.random(buffers.mask.shape[1:]) < self._share
            buffers.mask[row] &= kept
            buffers.planes[row][:, ~kept] = 0
