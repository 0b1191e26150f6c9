"""Weights that their authors publish: what there is to download, and where it belongs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill3r_core import paths
from distill3r_core.errors import WeightsError

_GIGABYTE = 1000  # megabytes


Commercial = Literal["yes", "no", "unclear"]


@dataclass(frozen=True)
class PublicFigure:
    """A figure of a model that others have measured and published."""

    text: str  # what was measured, and the value
    source: str  # where it is published


@dataclass(frozen=True)
class PublishedWeights:
    """The weights of one model: files of a Hugging Face repository, or one file with an address.

    Args:
        name: Name of the model, as in `distill3r models`.
        files: Files that are read; the first one holds the tensors and is downloaded last.
        megabytes: Size of the download.
        license: License of the weights; what is made from them inherits it.
        repo: Owner and name of the repository; None: `url` is the address of the only file.
        url: Address of the file.
        folder: Folder in `DISTILL3R_HOME`; None: the name of the model.
        sha256: Hash of the file as its publisher gives it; None where he gives none.
        commercial: Whether the license, as read in November 2026, allows commercial use.
        parameters: Numbers in the file; None: unknown.
        figure: A published figure of the model; None: none is known.
        other_files: Names of files that hold the same tensors as the first one, and are read where
            a folder lacks that.
    """

    name: str
    files: tuple[str, ...]
    megabytes: int
    license: str
    repo: str | None = None
    url: str = ""
    folder: str | None = None
    sha256: str | None = None
    commercial: Commercial = "unclear"
    parameters: int | None = None
    figure: PublicFigure | None = None
    other_files: tuple[str, ...] = ()

    @property
    def tensor_files(self) -> tuple[str, ...]:
        """Names of the file with the tensors, the one that is downloaded first."""
        return self.files[0], *self.other_files

    @property
    def address(self) -> str:
        """Where the weights are published."""
        return self.url if self.repo is None else f"https://huggingface.co/{self.repo}"

    @property
    def place(self) -> Path:
        """Where they belong on this machine: a folder for a repository, else a file."""
        home = paths.weights_home() / (self.folder or self.name)
        return home / self.files[0] if self.repo is None else home

    @property
    def size(self) -> str:
        """Size of the download in words."""
        gigabytes = self.megabytes / _GIGABYTE
        return f"{self.megabytes:.0f} MB" if gigabytes < 1 else f"{gigabytes:g} GB"

    def find(self) -> Path | None:
        """The file, or the folder with all files, in `place` or the hub's cache; None: missing."""
        if self.repo is None:
            return self.place if self.place.is_file() else None
        if self.complete(self.place):
            return self.place
        from huggingface_hub import try_to_load_from_cache  # not free to import

        for name in self.tensor_files:
            cached = try_to_load_from_cache(self.repo, name)
            if isinstance(cached, str) and self.complete(Path(cached).parent):
                return Path(cached).parent
        return None

    def complete(self, folder: Path) -> bool:
        """Whether a folder has the tensors, by any of their names, and all other files."""
        return self.tensor_file(folder) is not None and all(
            (folder / file).is_file() for file in self.files[1:]
        )

    def tensor_file(self, folder: Path) -> Path | None:
        """The file with the tensors in a folder; None: it has none."""
        return next((folder / n for n in self.tensor_files if (folder / n).is_file()), None)

    def missing(self) -> WeightsError:
        """The error that says which file goes where."""
        files = "" if self.repo is None else f"{' and '.join(self.files)} in "
        cache = "" if self.repo is None else " or in the Hugging Face cache"
        return WeightsError(
            f"no file {files}{self.place}{cache}",
            hint=f"download it ({self.size}, {self.license}): "
            f"distill3r models download {self.name}\nor put the file from {self.address} there",
        )


def spatial_bench(auc: float, abs_rel: float) -> PublicFigure:
    """Figures of the independent benchmark SpatialBench on sparse views, all data sets.

    Args:
        auc: Area under the curve of pose errors up to 30 degrees; higher is better.
        abs_rel: Relative error of depth; lower is better.
    """
    return PublicFigure(
        f"SpatialBench, sparse views: pose AUC@30 {auc:.3f}, depth AbsRel {abs_rel:.3f}",
        "https://github.com/Ropedia/SpatialBench, leaderboard.md at 7f06a37",
    )
