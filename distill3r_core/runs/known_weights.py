"""Published weights that this program reads, by the name of the model."""

from distill3r_core.io.published_weights import PublishedWeights
from distill3r_core.models.encoders.dune_weights import DUNE_FILES
from distill3r_core.registry import Registry
from distill3r_core.teachers import TEACHERS


def known_weights() -> Registry[PublishedWeights]:
    """Every model whose weights this program can read, by name."""
    known: Registry[PublishedWeights] = Registry("model")
    for name in TEACHERS:
        if (weights := TEACHERS[name].weights) is not None:
            known.add(name, weights)
    for name in DUNE_FILES:
        known.add(name, DUNE_FILES[name])
    return known
