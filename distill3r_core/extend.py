"""Public names for code that adds to distill3r: registries, records and the types they speak in.

A plugin file (`--plugin FILE.py`) and a package with entry points import from here. Names are
loaded when they are first used. docs/extending.md shows one addition of each kind.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill3r_core import plugins

if TYPE_CHECKING:
    from distill3r_core.data.layouts import (
        LAYOUTS,
        Dataset,
        DepthFile,
        Frame,
        Layout,
        Note,
        Refused,
        Rig,
        Scene,
        VideoScene,
        one_dataset,
    )
    from distill3r_core.data.sampling import Policy
    from distill3r_core.evaluation.protocols import PROTOCOLS, Protocol
    from distill3r_core.io.images.depth_codecs import DEPTH_CODECS
    from distill3r_core.teachers.build import TEACHERS
    from distill3r_core.types import PreparedView, RawMaps, TeacherTargets, View

_REGISTRIES = {
    "DEPTH_CODECS": "distill3r_core.io.images.depth_codecs",
    "LAYOUTS": "distill3r_core.data.layouts",
    "PROTOCOLS": "distill3r_core.evaluation.protocols",
    "TEACHERS": "distill3r_core.teachers.build",
}
_HOMES = _REGISTRIES | {
    "Dataset": "distill3r_core.data.layouts",
    "DepthFile": "distill3r_core.data.layouts",
    "Frame": "distill3r_core.data.layouts",
    "Note": "distill3r_core.data.layouts",
    "Refused": "distill3r_core.data.layouts",
    "Rig": "distill3r_core.data.layouts",
    "Scene": "distill3r_core.data.layouts",
    "VideoScene": "distill3r_core.data.layouts",
    "one_dataset": "distill3r_core.data.layouts",
    "Layout": "distill3r_core.data.layouts",
    "Policy": "distill3r_core.data.sampling",
    "PreparedView": "distill3r_core.types",
    "Protocol": "distill3r_core.evaluation.protocols",
    "RawMaps": "distill3r_core.types",
    "TeacherTargets": "distill3r_core.types",
    "View": "distill3r_core.types",
}

__all__ = [
    "DEPTH_CODECS",
    "LAYOUTS",
    "PROTOCOLS",
    "TEACHERS",
    "Dataset",
    "DepthFile",
    "Frame",
    "Layout",
    "Note",
    "Policy",
    "PreparedView",
    "Protocol",
    "RawMaps",
    "Refused",
    "Rig",
    "Scene",
    "TeacherTargets",
    "VideoScene",
    "View",
    "load_plugins",
    "one_dataset",
]


def load_plugins(paths: Sequence[str | Path]) -> None:
    """Load plugin files, each once.

    Args:
        paths: Python files, in the order in which they are loaded.

    Raises:
        InputMissingError: One of them is not there.
        ConfigError: One of them cannot be loaded; names the file and the line.
    """
    if paths:
        for name, module in _REGISTRIES.items():  # their own entries first: see `plugins.load`
            getattr(import_module(module), name)
    for path in paths:
        plugins.load(Path(path))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
