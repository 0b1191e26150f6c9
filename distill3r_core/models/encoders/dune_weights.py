"""DUNE's published weight files: what there is, and where it lies on this machine."""

from dataclasses import dataclass
from pathlib import Path

from distill3r_core import paths
from distill3r_core.errors import WeightsError
from distill3r_core.registry import Registry

_ADDRESS = "https://download.europe.naverlabs.com/dune/"
_FOLDER = "dune"
LICENSE = "NAVER's non-commercial license"


@dataclass(frozen=True)
class PublishedFile:
    """A weight file with an address of its own."""

    name: str
    url: str
    megabytes: int
    license: str  # license of the weights; what is made from them inherits it
    purpose: str
    sha256: str | None = None  # as its publisher gives it; None where he gives none

    @property
    def place(self) -> Path:
        """Where the file belongs on this machine."""
        return paths.weights_home() / _FOLDER / self.url.rpartition("/")[2]


DUNE_FILES: Registry[PublishedFile] = Registry("DUNE encoder")
# 336 pixels: the same network with a smaller table of positions.
for _name, _file, _megabytes in (
    ("dune-vits-448", "dune_vitsmall14_448.pth", 114),
    ("dune-vits-336", "dune_vitsmall14_336.pth", 113),
    ("dune-vitb-448", "dune_vitbase14_448.pth", 440),
    ("dune-vitb-336", "dune_vitbase14_336.pth", 439),
    ("dune-vitb-448-paper", "dune_vitbase14_448_paper.pth", 440),
):
    DUNE_FILES.add(
        _name, PublishedFile(_name, _ADDRESS + _file, _megabytes, LICENSE, "encoder of a student")
    )
DEFAULT_DUNE = "dune-vits-448"  # what the paper's student starts from


def find_dune(name: str = DEFAULT_DUNE) -> Path | None:
    """The file on this machine, or None where it is not."""
    place = DUNE_FILES[name].place
    return place if place.is_file() else None


def missing(file: PublishedFile) -> WeightsError:
    """The error that says which file goes where."""
    return WeightsError(
        f"no file {file.place}",
        hint=f"download it ({file.megabytes} MB, {file.license}): "
        f"distill3r models download {file.name}\nor put the file from {file.url} there",
    )
