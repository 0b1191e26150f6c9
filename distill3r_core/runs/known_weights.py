"""Published weights that this program reads, by the name of the model."""

from distill3r_core.io.published_weights import PublishedWeights
from distill3r_core.models.encoders.dune_weights import DUNE_FILES
from distill3r_core.models.encoders.published_encoders import ENCODER_FILES
from distill3r_core.registry import Registry
from distill3r_core.teachers import TEACHERS

# Further releases of networks that teachers read, named by their folder or file: `-m FOLDER`,
# `--weights FOLDER`.
OTHER_RELEASES = (
    PublishedWeights(
        "da3-large-1.0",  # deprecated by its authors
        ("model.safetensors",),
        1644,
        "CC BY-NC 4.0",
        repo="depth-anything/DA3-LARGE",
        commercial="no",
        parameters=410_941_767,
    ),
    PublishedWeights(
        "vggt-commercial",  # behind a form: a token of the hub is needed
        ("vggt_1B_commercial.pt",),
        5026,
        "VGGT License (no military use)",
        repo="facebook/VGGT-1B-Commercial",
        commercial="yes",
        parameters=1_256_537_516,
    ),
)


def known_weights() -> Registry[PublishedWeights]:
    """Every model whose weights this program can read, by name."""
    known: Registry[PublishedWeights] = Registry("model")
    for name in TEACHERS:
        if (weights := TEACHERS[name].weights) is not None:
            known.add(name, weights)
    for weights in OTHER_RELEASES:
        known.add(weights.name, weights)
    for encoders in (DUNE_FILES, ENCODER_FILES):
        for name in encoders:
            known.add(name, encoders[name])
    return known
