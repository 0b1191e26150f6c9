"""Layout `pattern`: the original project's `data_paths.yaml`, a list of roots and globs.

Each entry of `datasets` has `name`, `root`, `pattern` (or `glob`), and may have `sample_frac`,
`split` and `resize_max`; `prep.resize_max` holds for all. Beyond the original's, an entry may say
what lies beside its images: `depth` (with `depth_scale`), `poses`, `intrinsics`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import yaml
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.data.layouts import sevenscenes
from distill3r_core.data.layouts.folders import order_of
from distill3r_core.data.layouts.glob_patterns import (
    MatchedFile,
    Pattern,
    free_parts,
    matched_files,
)
from distill3r_core.data.layouts.images import named_frames
from distill3r_core.data.layouts.pattern_files import BesideIndex, FilesBeside
from distill3r_core.data.layouts.published import blendedmvs, matterport, scannetpp
from distill3r_core.data.layouts.records import (
    Dataset,
    Frame,
    Layout,
    LeftOut,
    Listed,
    Note,
    Refused,
    Scene,
)
from distill3r_core.data.manifest_cells import Split
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ConfigError, ImageError, InputMissingError
from distill3r_core.files import read_text_file
from distill3r_core.io.images.media_kinds import media_kind
from distill3r_core.report import counted
from distill3r_core.untrusted.printable import reason_of
from distill3r_core.untrusted.yaml_text import read_yaml

_MASKED = "_masked"  # BlendedMVS: a second copy of every image
_KNOWN_FOLDERS = (  # whose images are not what a pattern takes them for
    (scannetpp.holds_fisheye, scannetpp.IS_FISHEYE),
    (matterport.holds_panoramas, matterport.ARE_PANORAMAS),
)
# Policies of published data sets, by the beginning of their name in lower case.
_POLICIES = {
    "co3d": Policy("orbit", most=10),
    "dtu": Policy("orbit", most=3),
    "scannetpp": Policy("path", reference=200, most=5),
    "scannet++": Policy("path", reference=200, most=5),
    "habitat": Policy("path", reference=60, most=3),
    "arkitscenes": Policy("path", reference=150, least=5, most=30),
    "megadepth": Policy("cloud", reference=100, most=8),
    "blendedmvs": Policy("path", reference=150, most=4),
    sevenscenes.LAYOUT.name: sevenscenes.LAYOUT.policy,
    "12scenes": Policy("path", reference=100, least=2, most=20, video_like=True),
}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PatternEntry(FilesBeside):
    """One data set of the file, with the patterns of what lies beside its images.

    Args:
        name: Name of the data set.
        root: A folder, relative to where the program runs, else to the file.
        pattern: Glob below the root.
        sample_frac: Fraction of the scenes to keep.
        split: Split of all its scenes; None: decided by scene.
        resize_max: Limit of the long edge, pixels.
    """

    name: str
    root: str
    pattern: Pattern
    sample_frac: float | None = Field(default=None, gt=0, le=1)
    split: Split | None = None
    resize_max: int | None = Field(default=None, ge=1)


def policy_for(dataset: str) -> Policy | None:
    """Sampling policy of a published data set by its name; None where it is unknown."""
    plain = dataset.lower().replace("-", "").replace("_", "")
    return next((policy for name, policy in _POLICIES.items() if plain.startswith(name)), None)


def _detect(root: Path) -> str | None:
    is_yaml = root.is_file() and root.suffix.lower() in (".yaml", ".yml")
    return "a YAML file that lists data sets" if is_yaml else None


def _scan(root: Path, skip: Path | None) -> list[Dataset]:
    """Find the data sets that a file names.

    Raises:
        ConfigError: The file is not of this form.
        InputMissingError: A root that it names does not exist.
    """
    found = []
    for entry in _entries(root):
        folder = Path(entry.root).expanduser()
        if not folder.is_dir():
            folder = root.parent / entry.root
        if not folder.is_dir():
            raise InputMissingError(f"no folder {entry.root} (data set {entry.name} of {root})")
        found.append(
            Dataset(
                name=entry.name,
                root=folder,
                list_scenes=partial(_list_scenes, entry, folder, skip),
                policy=policy_for(entry.name),
                split=entry.split,
                sample_frac=entry.sample_frac,
                resize_max=entry.resize_max,
            )
        )
    return found


def _entries(path: Path) -> list[PatternEntry]:
    try:
        content = read_yaml(read_text_file(path))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {reason_of(error)}") from error
    prepared = content.get("prep") if isinstance(content, Mapping) else None
    listed = content.get("datasets") if isinstance(content, Mapping) else content
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"cannot use {path}: it has no list `datasets`")
    common = prepared.get("resize_max") if isinstance(prepared, Mapping) else None
    entries = []
    for number, values in enumerate(listed, 1):
        source = f"{path}, data set {number}"
        if not isinstance(values, Mapping):
            raise ConfigError(f"cannot use {source}: it is not a mapping")
        plain = dict(values)
        if "glob" in plain:
            plain["pattern"] = plain.pop("glob")
        if plain.get("split") == "test":
            plain["split"] = "val"
        plain.setdefault("resize_max", common)
        entries.append(config.validate(PatternEntry, plain, source=source))
    return entries


def _list_scenes(entry: PatternEntry, root: Path, skip: Path | None) -> Iterator[Listed]:
    groups: dict[Path, list[MatchedFile]] = {}
    for file in matched_files(root, entry.pattern, skip):
        if media_kind(file.path) != "image":
            yield Refused(file.path, "not an image by its extension or content")
        else:
            groups.setdefault(file.path.parent, []).append(file)
    ids = {
        folder: free_parts(folder.relative_to(root), entry.pattern) or entry.name
        for folder in groups
    }
    if len(set(ids.values())) < len(ids):  # the pattern's wildcards do not tell the scenes apart
        ids = {folder: folder.relative_to(root).as_posix() for folder in groups}
    index = BesideIndex(root, entry, [images[0].folders for images in groups.values()], skip)
    for holds, remark in _KNOWN_FOLDERS:
        if count := sum(map(holds, groups)):
            scenes = counted(count, "scene", of=len(groups))
            yield Note(f"{entry.name} ({scenes}): {remark}")
    for folder, images in groups.items():
        copies = {file.path.stem + _MASKED for file in images}
        kept = []
        for file in images:
            if file.path.stem in copies:
                yield LeftOut(file.path, blendedmvs.MASKED_COPY)
            else:
                kept.append(file)
        named, frames = named_frames([file.path for file in kept]), []
        if scannetpp.holds_fisheye(folder):
            named = tuple(replace(frame, camera="fisheye") for frame in named)
        order = order_of(file.path.stem for file in kept)
        scene = Scene(ids[folder], folder, named, order, split=entry.split)
        try:
            for found in index.attach(scene.scene_id, kept, named):
                if isinstance(found, Frame):
                    frames.append(found)
                else:
                    yield found
        except ImageError as error:
            yield Refused(folder, str(error), images=scene)
            continue
        yield replace(scene, frames=tuple(frames))
    yield from index.unclaimed()


LAYOUT = Layout(
    name="pattern",
    summary="a YAML file of data sets: name, root, glob patterns of images, depth, poses, K",
    detect=_detect,
    scan=_scan,
    takes_file=True,
    carries=frozenset({"depth", "pose", "intrinsics"}),
)
