"""Formats in which a reconstruction is written: one record each.

Importing this module is instant (no torch, no library of a format): the command line takes the
names in its help from here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import Literal

from distill3r_core.errors import ExtraMissingError, RequestError
from distill3r_core.registry import Registry

Need = Literal["poses", "cloud"]


@dataclass(frozen=True)
class ExportFormat:
    """A format of files.

    Args:
        write: Takes an `Export`, writes its files and returns their paths.
        needs: What the reconstruction must have. Views that a local head alone has seen have
            neither poses nor a cloud.
    """

    write: Callable[..., Sequence[Path]]
    needs: frozenset[Need] = frozenset()
    package: str | None = None  # optional package that `write` imports; None: none
    extra: str | None = None  # the extra of this project that installs it, if one does

    def require_package(self, name: str) -> None:
        """Refuse the format where its package is not installed.

        Raises:
            ExtraMissingError: Names the package and how to install it.
        """
        if self.package is not None and util.find_spec(self.package) is None:
            target = self.package if self.extra is None else f"'distill3r[{self.extra}]'"
            raise ExtraMissingError(
                f"the format {name} needs the package {self.package}", hint=f"pip install {target}"
            )


FORMATS: Registry[ExportFormat] = Registry("format")


def require_formats(names: Sequence[str], *, has: Collection[Need]) -> None:
    """Refuse formats that are unknown or cannot be written.

    Raises:
        ConfigError: A format has another name.
        RequestError: A format needs what the reconstruction lacks.
        ExtraMissingError: A format needs a package that is not installed.
    """
    formats = {name: FORMATS[name] for name in names}
    for name, record in formats.items():
        if missing := sorted(record.needs - set(has)):
            possible = ",".join(each for each in FORMATS if FORMATS[each].needs <= set(has))
            raise RequestError(
                f"the format {name} needs {' and '.join(missing)}, which --head local does not "
                "give",
                hint=f"--format {possible}; --head both (the default) runs the other head too",
            )
        record.require_package(name)


def _deferred(function: str) -> Callable[..., Sequence[Path]]:
    """A function of `format_writers`, which is imported when something is written."""

    def write(export: object) -> Sequence[Path]:
        writers = import_module("distill3r_core.reconstruction.format_writers")
        return getattr(writers, function)(export)

    return write


_SCENE: frozenset[Need] = frozenset(("poses", "cloud"))

FORMATS.add("ply", ExportFormat(_deferred("save_ply"), _SCENE))
FORMATS.add("glb", ExportFormat(_deferred("save_glb"), _SCENE))
FORMATS.add("colmap", ExportFormat(_deferred("save_colmap"), _SCENE))
FORMATS.add("nerfstudio", ExportFormat(_deferred("save_nerfstudio"), _SCENE))
FORMATS.add("npz", ExportFormat(_deferred("save_npz")))
FORMATS.add("depth", ExportFormat(_deferred("save_depth")))
FORMATS.add("tum", ExportFormat(_deferred("save_tum"), frozenset(("poses",))))
FORMATS.add("html", ExportFormat(_deferred("save_html"), _SCENE))
