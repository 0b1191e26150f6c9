"""Published weights that this program reads: where they come from, and where they lie."""

from dataclasses import dataclass
from pathlib import Path

from distill3r_core import paths
from distill3r_core.errors import WeightsError
from distill3r_core.models.encoders.dune_weights import DUNE_FILES, PublishedFile
from distill3r_core.registry import Registry
from distill3r_core.teachers import TEACHERS
from distill3r_core.teachers.weights import HubFolder, require_weights


@dataclass(frozen=True)
class KnownWeights:
    """One entry of `models list`."""

    name: str
    source: PublishedFile | HubFolder  # where it is published

    @property
    def megabytes(self) -> float:
        """Size of the download, about."""
        source = self.source
        if isinstance(source, HubFolder):
            return 1e3 * source.gigabytes
        return float(source.megabytes)

    @property
    def address(self) -> str:
        """Where it is published."""
        source = self.source
        if isinstance(source, HubFolder):
            return f"https://huggingface.co/{source.repo}"
        return source.url

    @property
    def place(self) -> Path:
        """Where it belongs on this machine."""
        source = self.source
        return paths.weights_home() / self.name if isinstance(source, HubFolder) else source.place

    def find(self) -> Path | None:
        """Its file or folder on this machine, or None."""
        if isinstance(self.source, PublishedFile):
            return self.place if self.place.is_file() else None
        try:
            return require_weights(self.name, self.source)
        except WeightsError:
            return None

    def main_file(self, found: Path) -> Path:
        """The file that holds the tensors."""
        return found / self.source.files[0] if isinstance(self.source, HubFolder) else found


def known_weights() -> Registry[KnownWeights]:
    """Every model whose weights this program can read, by name."""
    known: Registry[KnownWeights] = Registry("model")
    for name in TEACHERS:
        folder = TEACHERS[name].weights
        if folder is not None:
            known.add(name, KnownWeights(name, folder))
    for name in DUNE_FILES:
        known.add(name, KnownWeights(name, DUNE_FILES[name]))
    return known
