"""The images that samples of a cache were made of, from the manifest that is behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import ManifestRow, read_manifest
from distill3r_core.data.manifest_views import image_hash, read_pixels
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.errors import ConfigError, FailedError, ImageError, InputMissingError
from distill3r_core.types import ImagePlacement, View


@dataclass
class ManifestImages:
    """Reads the images of samples, and each manifest once."""

    rows: dict[Path, dict[str, ManifestRow]] = field(default_factory=dict)

    def of(
        self, cache: TeacherCache, name: str, views: Sequence[int]
    ) -> tuple[tuple[View, ImagePlacement], ...]:
        """The images of a sample's views with their K where it is calibrated, and where the
        cached images lie in them.

        Returns:
            () where one of them is not there as it was when the cache was made, or where the
            cache has it transposed, and so mirrored.
        """
        detail = cache.detail(name)
        if not {"root", "paths", "boxes"} <= detail.keys():  # another program's cache
            return ()
        rows, size = self._rows_of(Path(detail["root"])), cache.entry(name).size
        found = []
        for view in views:
            row = rows.get(detail["paths"][view])
            if row is None:
                return ()
            try:
                image = read_pixels(row, Path(detail["root"]))
                k = np.array(row.K).reshape(3, 3)
                k = checked_intrinsics(k) if row.K_source == "calibrated" else None
            except ImageError:
                return ()
            mirrored = cache.header.fit.get("mode") == "release" and row.H > row.W
            if mirrored or image_hash(image) != detail["pictures"][view]:
                return ()
            left, top, right, bottom = detail["boxes"][view]
            placement = ImagePlacement((left, top, right, bottom), size)
            found.append((View(image, k), placement))
        return tuple(found)

    def _rows_of(self, root: Path) -> dict[str, ManifestRow]:
        """The rows of a manifest by their images; none where it cannot be read."""
        if root not in self.rows:
            try:
                rows = read_manifest(root / "manifest.csv").rows
            except (FailedError, ConfigError, InputMissingError):
                rows = ()
            self.rows[root] = {row.image_path: row for row in rows}
        return self.rows[root]
