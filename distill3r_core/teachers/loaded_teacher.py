"""What teachers share whose networks are loaded from a weight file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill3r_core import config
from distill3r_core.io.checksums import file_hash
from distill3r_core.io.images.teacher_fit import TeacherFit
from distill3r_core.teachers.base import prepare_view
from distill3r_core.types import PreparedView, View


class LoadedTeacher:
    """The part of a teacher that does not depend on its network.

    Args:
        fit: How it takes images.
        settings: Its own settings, a frozen dataclass.
        weights: The file that the network was loaded from, for its hash; None: there is none.
    """

    def __init__(self, fit: TeacherFit, settings: Any, weights: Path | None) -> None:
        self.fit = fit
        self._settings, self._weights = settings, weights
        self._hash: str | None = None

    @property
    def weights_hash(self) -> str | None:
        """Hash of the weight file, which is read at the first use; None without a file."""
        if self._hash is None and self._weights is not None:
            self._hash = file_hash(self._weights)
        return self._hash

    @property
    def settings(self) -> Mapping[str, Any]:
        """The teacher's own settings as they were asked for."""
        return config.as_plain(self._settings)

    def prepare(self, view: View) -> PreparedView:
        """The view at the network's input size."""
        return prepare_view(view, self.fit)
