"""DUNE's published weight files."""

from pathlib import Path

from distill3r_core.io.published_weights import PublishedWeights
from distill3r_core.registry import Registry

_ADDRESS = "https://download.europe.naverlabs.com/dune/"
LICENSE = "NAVER's non-commercial license"

DUNE_FILES: Registry[PublishedWeights] = Registry("DUNE encoder")
# 336 pixels: the same network with a smaller table of positions.
for _name, _file, _megabytes in (
    ("dune-vits-448", "dune_vitsmall14_448.pth", 114),
    ("dune-vits-336", "dune_vitsmall14_336.pth", 113),
    ("dune-vitb-448", "dune_vitbase14_448.pth", 440),
    ("dune-vitb-336", "dune_vitbase14_336.pth", 439),
    ("dune-vitb-448-paper", "dune_vitbase14_448_paper.pth", 440),
):
    DUNE_FILES.add(
        _name,
        PublishedWeights(
            _name,
            (_file,),
            _megabytes,
            LICENSE,
            url=_ADDRESS + _file,
            folder="dune",
            commercial="no",
        ),
    )
DEFAULT_DUNE = "dune-vits-448"  # what the paper's student starts from


def find_dune(name: str = DEFAULT_DUNE) -> Path | None:
    """The file on this machine, or None where it is not."""
    return DUNE_FILES[name].find()
