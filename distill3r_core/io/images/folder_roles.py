"""What the images of a whole folder are: photographs, or depth maps, masks and smaller copies."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from distill3r_core.io.images.decode import read_header
from distill3r_core.io.images.media import DEPTH, LABELS, MASK, SMALLER, mask_key
from distill3r_core.io.images.media_kinds import (
    IMAGE_NAMES,
    SAMPLED,
    all_gray,
    is_measured,
    media_kind,
)

_DEPTH_NAME = re.compile(r"(^|[\W_])(depths?|depth_?maps?|disp|disparit(y|ies))($|[\W_])")
_MASK_NAME = re.compile(r"(^|[\W_])(masks?|mattes?|alphas?|segmentations?)($|[\W_])")
_LABEL_NAME = re.compile(
    r"(^|[\W_])(conf|confidences?|normals?|labels?|semantics?|instances?|panoptic|edges?)($|[\W_])"
)
_SMALL_NAME = re.compile(r"(^|[\W_])(thumbs?|thumbnails?|previews?|resized|small|lowres)($|[\W_])")
_ROLE_NAMES = (_DEPTH_NAME, _MASK_NAME, _LABEL_NAME, _SMALL_NAME)
_NUMBERED = re.compile(r"(?P<name>.+)_(?P<divisor>[2-9]|[1-9]\d)")  # images_4: a quarter the size
_SHARED = 0.5  # of names, from which one folder is made of the images of another
_ROUNDING = 2  # pixels by which a smaller copy may differ from the exact size


def role_of_folder(folder: Path) -> str | None:
    """Why the images in a folder are no photographs; None where they are.

    They are not where a folder beside it, or the one that it lies in, has the photographs, and

    - its name says depth, and its images are gray or have the names of the photographs;
    - its name says mask, and its images are gray;
    - its name says labels, normals or confidence, and its images have the photographs' names;
    - they are 16-bit gray or floating-point, whatever its name;
    - its name says how much smaller they are (`images_4`) and they are, or it says thumbnails.
    """
    names = _image_names(folder)
    if not names:
        return None
    name = folder.name.casefold()
    if all(is_measured(folder / image) for image in names[:SAMPLED]):
        return DEPTH if any(_photographs_beside(folder)) else None
    if not any(rule.search(name) for rule in _ROLE_NAMES) and not _NUMBERED.fullmatch(folder.name):
        return None
    images = [folder / image for image in names]
    if _MASK_NAME.search(name):
        return MASK if all_gray(images) and any(_photographs_beside(folder)) else None
    if _DEPTH_NAME.search(name):
        beside = list(_photographs_beside(folder))
        named_alike = any(_share(images, others) for others in beside)
        return DEPTH if beside and (named_alike or all_gray(images)) else None
    if _LABEL_NAME.search(name):
        named_alike = any(_share(images, others) for others in _photographs_beside(folder))
        return LABELS if named_alike else None
    if (match := _NUMBERED.fullmatch(folder.name)) and _is_numbered_copy(folder, images, match):
        return SMALLER
    if _SMALL_NAME.search(name) and any(
        _share(images, others) and _is_smaller(images, others)
        for others in _photographs_beside(folder)
    ):
        return SMALLER
    return None


def role_by_itself(folder: Path) -> str | None:
    """Why the images in a folder are no photographs, whatever is beside it; None: they may be.

    They are not where they are 16-bit gray or floating-point; where the folder's whole name says
    depth, mask, labels or thumbnails (`depth`, not `depth_test`); where a part of its name says
    depth or mask and they are gray. Whoever wants them all the same names the folder itself.
    """
    images = images_in(folder)
    if not images:
        return None
    if all(is_measured(path) for path in images[:SAMPLED]):
        return DEPTH
    name = folder.name.casefold()
    for rule, reason in zip(_ROLE_NAMES, (DEPTH, MASK, LABELS, SMALLER), strict=True):
        match = rule.search(name)
        if match and (match.group() == name or (reason in (DEPTH, MASK) and all_gray(images))):
            return reason
    return None


def masks_beside(
    folder: Path, images: Sequence[Path], *, mask_folders: dict[Path, list[Path]] | None = None
) -> dict[Path, Path]:
    """Masks of images in a folder of masks beside their folder, or in it, by image.

    A mask has the image's stem (`a.png` for `a.jpg`), or its whole name before its own suffix
    (`a.jpg.png`), or that followed by `_mask`.

    Args:
        folder: Folder of the images.
        images: Images in it.
        mask_folders: Folders of masks by the folder that they lie in, which are kept there for
            other folders of the same place: there may be thousands.
    """
    place = folder.resolve()
    known = {} if mask_folders is None else mask_folders
    if place.parent not in known:
        known[place.parent] = _folders_in(place.parent, _is_mask_name)
    names: dict[str, Path] = {}
    for other in (*_folders_in(place, _is_mask_name), *known[place.parent]):
        masks = images_in(other) if other != place else []
        if masks and all_gray(masks):
            for path in masks:
                names.setdefault(mask_key(path), path)
    found = {}
    for path in images if names else ():
        mask = names.get(path.name.casefold(), names.get(path.stem.casefold()))
        if mask is not None:
            found[path] = mask
    return found


def photograph_folders(folder: Path) -> list[Path]:
    """The folders directly in a folder that hold photographs or videos."""
    return [
        path
        for path in _folders_in(folder)
        if any(map(media_kind, _entries(path, os.DirEntry.is_file)))
        and role_of_folder(path) is None
    ]


def images_in(folder: Path) -> list[Path]:
    """The images in a folder by their suffixes, whatever they show."""
    return [folder / name for name in _image_names(folder)]


def _photographs_beside(folder: Path) -> Iterable[list[Path]]:
    """Images of the folder above and of those beside a folder, where they are photographs."""
    place = folder.resolve()
    for other in (place.parent, *_folders_in(place.parent)):
        name = other.name.casefold()
        if other == place or _DEPTH_NAME.search(name):
            continue
        if other != place.parent and (_MASK_NAME.search(name) or _LABEL_NAME.search(name)):
            continue
        images = images_in(other)
        if images and not all(is_measured(path) for path in images[:SAMPLED]):
            yield images


def _is_numbered_copy(folder: Path, images: Sequence[Path], match: re.Match[str]) -> bool:
    """Whether `images_4` holds the images of `images`, or of `images_2`, at a smaller size."""
    divisor = int(match["divisor"])
    larger = [(1, folder.with_name(match["name"]))]
    larger += [(n, folder.with_name(f"{match['name']}_{n}")) for n in range(2, divisor)]
    for other_divisor, other in larger:
        others = images_in(other) if other.is_dir() else []
        if others and _share(images, others):
            return _is_smaller(images, others, ratio=divisor / other_divisor)
    return False


def _is_smaller(
    images: Sequence[Path], others: Sequence[Path], *, ratio: float | None = None
) -> bool:
    """Whether the first image that both have is smaller here, by a ratio if one is given."""
    stems = {path.stem.casefold(): path for path in others}
    pairs = ((path, stems.get(path.stem.casefold())) for path in images)
    mine, other = next((pair for pair in pairs if pair[1] is not None), (None, None))
    if mine is None or other is None:
        return False
    small, large = read_header(mine), read_header(other)
    if small is None or large is None:
        return False
    if ratio is None:
        return max(small[1]) < max(large[1])
    return all(
        abs(side - whole / ratio) <= _ROUNDING
        for side, whole in zip(small[1], large[1], strict=True)
    )


def _share(images: Sequence[Path], others: Sequence[Path]) -> bool:
    """Whether at least half of the images have the stems of others."""
    stems = {path.stem.casefold() for path in others}
    shared = sum(path.stem.casefold() in stems or mask_key(path) in stems for path in images)
    return shared >= _SHARED * len(images)


def _is_mask_name(name: str) -> bool:
    folded = name.casefold()  # `depth_masks` says where depth is valid
    return bool(_MASK_NAME.search(folded)) and not _DEPTH_NAME.search(folded)


def _image_names(folder: Path) -> list[str]:
    """Their names, which take a fraction of the time of paths."""
    names = _names(folder, os.DirEntry.is_file)
    return [name for name in names if name.lower().endswith(IMAGE_NAMES)]


def _folders_in(folder: Path, wanted: Callable[[str], bool] = bool) -> list[Path]:
    """Folders in a folder whose names are wanted."""
    return _entries(folder, os.DirEntry.is_dir, wanted)


def _entries(
    folder: Path,
    is_kind: Callable[[os.DirEntry[str]], bool],
    wanted: Callable[[str], bool] = bool,
) -> list[Path]:
    """Entries of a kind in a folder, without hidden ones; none where it cannot be listed."""
    return [folder / name for name in _names(folder, is_kind) if wanted(name)]


def _names(folder: Path, is_kind: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if not entry.name.startswith(".") and is_kind(entry):
                        names.append(entry.name)
                except OSError:  # a link that leads to itself
                    continue
    except OSError:
        return []
    return sorted(names)
