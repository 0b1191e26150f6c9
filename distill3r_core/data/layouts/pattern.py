"""Layout `pattern`: the original project's `data_paths.yaml`, a list of roots and globs.

Each entry of `datasets` has `name`, `root`, `pattern` (or `glob`), and may have `sample_frac`,
`split` and `resize_max`; `prep.resize_max` holds for all.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.data.layouts.base import Refused, Scan, Scene, frame_key, order_of
from distill3r_core.data.layouts.images import named_frames
from distill3r_core.data.manifest import Split
from distill3r_core.errors import ConfigError, InputMissingError
from distill3r_core.io.images.decode import EXTENSIONS

NAME = "pattern"
_MASKED = "_masked"  # BlendedMVS: a second copy of every picture


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PatternEntry:
    """One data set of the file.

    Args:
        name: Of the data set.
        root: A folder, relative to where the program runs, else to the file.
        pattern: Glob below the root.
        sample_frac: Fraction of the scenes to keep.
        split: Of all its scenes; None: decided by scene.
        resize_max: Its limit of the long edge.
    """

    name: str
    root: str
    pattern: str
    sample_frac: float | None = Field(default=None, gt=0, le=1)
    split: Split | None = None
    resize_max: int | None = Field(default=None, ge=1)


def detect(root: Path) -> bool:
    """Whether it is a YAML file."""
    return root.is_file() and root.suffix.lower() in (".yaml", ".yml")


def scan(root: Path, *, skip: Path | None = None) -> tuple[Scan, ...]:
    """List the data sets that a file names.

    Args:
        root: The YAML file.
        skip: A folder to leave out: that of the results.

    Raises:
        ConfigError: The file is not of this form.
        InputMissingError: A root it names is not there.
    """
    return tuple(_scan_entry(entry, root, skip) for entry in _entries(root))


def _entries(path: Path) -> list[PatternEntry]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    prepared = content.get("prep") if isinstance(content, Mapping) else None
    listed = content.get("datasets") if isinstance(content, Mapping) else content
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"cannot use {path}: it has no list `datasets`")
    common = prepared.get("resize_max") if isinstance(prepared, Mapping) else None
    return [_entry(values, common, f"{path}, data set {n}") for n, values in enumerate(listed, 1)]


def _entry(values: Any, resize_max: Any, source: str) -> PatternEntry:
    if not isinstance(values, Mapping):
        raise ConfigError(f"cannot use {source}: it is not a mapping")
    plain = dict(values)
    if "glob" in plain:
        plain["pattern"] = plain.pop("glob")
    if plain.get("split") == "test":
        plain["split"] = "val"
    plain.setdefault("resize_max", resize_max)
    return config.validate(PatternEntry, plain, source=source)


def _scan_entry(entry: PatternEntry, file: Path, skip: Path | None) -> Scan:
    root = Path(entry.root).expanduser()
    if not root.is_dir():
        root = file.parent / entry.root
    if not root.is_dir():
        raise InputMissingError(f"no folder {entry.root} (data set {entry.name} of {file})")
    hidden, refused, groups = skip.resolve() if skip else None, [], {}
    for path in sorted(root.glob(entry.pattern), key=lambda path: frame_key(str(path))):
        relative = path.relative_to(root)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        if path.suffix.lower() not in EXTENSIONS:
            refused.append(Refused(path, "not a picture by its extension"))
        elif hidden is None or not path.resolve().is_relative_to(hidden):
            groups.setdefault(path.parent, []).append(path)
    scenes = []
    ids = {folder: _scene_id(folder.relative_to(root), entry) for folder in groups}
    if len(set(ids.values())) < len(ids):  # the pattern's words do not tell the scenes apart
        ids = {folder: folder.relative_to(root).as_posix() for folder in groups}
    for folder, pictures in groups.items():
        stems = {path.stem for path in pictures}
        kept = [path for path in pictures if not _is_copy(path.stem, stems)]
        scenes.append(
            Scene(
                scene_id=ids[folder],
                folder=folder,
                frames=named_frames(kept),
                order=order_of(path.stem for path in kept),
                split=entry.split,
            )
        )
    return Scan(
        dataset=entry.name,
        layout=NAME,
        root=root,
        scenes=tuple(scenes),
        policy_name=entry.name,
        refused=tuple(refused),
        fixed_split=entry.split is not None,
        sample_frac=entry.sample_frac,
        resize_max=entry.resize_max,
    )


def _is_copy(stem: str, stems: set[str]) -> bool:
    return stem.endswith(_MASKED) and stem.removesuffix(_MASKED) in stems


def _scene_id(folder: Path, entry: PatternEntry) -> str:
    """Path parts below the root that the pattern does not spell out: those that name a scene."""
    literal = {part for part in PurePosixPath(entry.pattern).parts if not set(part) & set("*?[")}
    parts = [part for part in folder.parts if part not in literal]
    return "/".join(parts) or entry.name
