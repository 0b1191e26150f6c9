"""Views out of a manifest's rows, and the hashes by which images and samples are known."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from distill3r_core.data.manifest import ManifestRow
from distill3r_core.data.matrix_files import check_pose, checked_intrinsics
from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.depth import read_depth
from distill3r_core.io.images.masks import read_mask
from distill3r_core.io.images.resize import limited_size, resize_image
from distill3r_core.untrusted.printable import reason_of
from distill3r_core.views import Unit, View

INDEX = ".frames.jsonl"  # beside the manifest: what was made of which file
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Stamp:
    """Size and time of a file: while they stand, so does its content."""

    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """The stamp of a file that is there."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


def image_hash(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """BLAKE2b-128 of upright pixels and their size."""
    return _digest(_shape_bytes(pixels), np.ascontiguousarray(pixels).tobytes())


def content_hash(
    image_hash: str,
    *,
    depth: Float[np.ndarray, "H W"] | None = None,
    intrinsics: Float[np.ndarray, "3 3"] | None = None,
    world_from_cam: Float[np.ndarray, "4 4"] | None = None,
    unit: Unit = "none",
    mask: Bool[np.ndarray, "H W"] | None = None,
) -> str:
    """BLAKE2b-128 of all that a teacher reads of a frame.

    Args:
        image_hash: `image_hash` of the pixels.
        depth: Registered, as `read_depth` gives it.
        intrinsics: Calibrated ones only.
        world_from_cam: Camera pose.
        unit: Unit of depth and pose.
        mask: Pixels that count; None: all of them.
    """
    parts = [image_hash.encode(), unit.encode()]
    for name, values in (("depth", depth), ("K", intrinsics), ("pose", world_from_cam)):
        if values is not None:
            kind = np.float32 if name == "depth" else np.float64
            values = np.ascontiguousarray(values, dtype=kind)
            parts += [name.encode(), _shape_bytes(values), values.tobytes()]
    if mask is not None:
        parts += [b"mask", _shape_bytes(mask), np.ascontiguousarray(mask).tobytes()]
    return _digest(*parts)


def read_view(row: ManifestRow, root: Path, *, sample: str = "", index: int = 0) -> View:
    """The view of one row.

    Args:
        row: Row of a manifest.
        root: The manifest's folder.
        sample: Name of the sample it is read for.
        index: Its place in the sample.

    Raises:
        ImageError: Unreadable, or not what the manifest was made of. The message is the reason
            alone.
    """
    view = _read(row, root, sample=sample, index=index)
    if row.content and _content(row, view) != row.content:
        raise ImageError("has changed since the manifest was made")
    return view


def content_of(
    rows: Sequence[ManifestRow],
    root: Path,
    *,
    stamps: Mapping[str, Stamp] | None = None,
    compute: bool = False,
) -> str:
    """What a sample is known by, beside its name: a hash of the contents of its rows, in order.

    A row's own `content` is trusted while size and time of its files are those in `stamps`;
    else, and where it has none, it is computed from the files.

    Args:
        rows: Rows of the sample, in order.
        root: The manifest's folder.
        stamps: From `read_stamps`; None: read here.
        compute: Trust nothing.

    Raises:
        ImageError: A file cannot be read; names it.
    """
    stamps = read_stamps(root) if stamps is None else stamps
    parts = []
    for row in rows:
        if not compute and row.content and _stands(row, root, stamps):
            parts.append(row.content)
            continue
        try:
            parts.append(_content(row, _read(row, root)))
        except ImageError as error:
            raise ImageError(f"{row.image_path}: {reason_of(error)}") from error
    return _digest(*(part.encode() for part in parts))


def read_stamps(root: Path) -> dict[str, Stamp]:
    """Stamps of the files that `manifest` wrote, by their path in the manifest; {} without them."""
    path = root / INDEX
    if not path.is_file():
        return {}
    stamps: dict[str, Stamp] = {}
    for line in read_text_file(path, errors="replace").split("\n"):
        try:
            written = json.loads(line)["written"]
            stamps |= {name: Stamp(*stamp) for name, stamp in written.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # the last line of a run that was killed, a frame that was refused, or damage
    return stamps


def read_pixels(row: ManifestRow, root: Path) -> UInt8[np.ndarray, "H W 3"]:
    """The processed image of a row.

    An original that the row names in place of a copy (`manifest --link`) is resized to it; whether
    it is still the same image, `content` tells.

    Raises:
        ImageError: Unreadable, or of another size than the row says. The message is the reason
            alone.
    """
    pixels = read_image(file_of(root, row.image_path)).pixels
    height, width, _ = pixels.shape
    if (height, width) == (row.H, row.W):
        return pixels
    # A row without hashes is the original project's, which names processed images alone.
    if row.content and limited_size((height, width), max(row.H, row.W)) == (row.H, row.W):
        return resize_image(pixels, (row.H, row.W))
    raise ImageError(f"is {width}x{height} pixels, the manifest says {row.W}x{row.H}")


def file_of(root: Path, text: str) -> Path:
    """The file a manifest's path names: beside the manifest, or absolute.

    The original project writes paths relative to where it was run; they are looked for from the
    folders above the manifest, so that it names the same files wherever this program runs.
    """
    path = root / text
    if path.exists():
        return path
    above = (folder / text for folder in root.absolute().parents)
    return next((found for found in above if found.exists()), path)


def _read(row: ManifestRow, root: Path, *, sample: str = "", index: int = 0) -> View:
    image = read_pixels(row, root)
    depth = None
    if row.depth_path and row.depth_format is not None:
        depth = read_depth(file_of(root, row.depth_path), stored=row.depth_format, unit=row.unit)
        if depth.shape != image.shape[:2]:
            raise ImageError(
                f"depth is {depth.shape[1]}x{depth.shape[0]}, image is {row.W}x{row.H} pixels"
            )
    mask = None
    if row.mask_path:
        mask = read_mask(file_of(root, row.mask_path), image.shape[:2])
    intrinsics = world_from_cam = None
    if row.K_source == "calibrated":
        intrinsics = checked_intrinsics(np.array(row.K).reshape(3, 3))
    if row.pose is not None:
        world_from_cam = np.array(row.pose).reshape(4, 4)
        check_pose(world_from_cam)
    return View(
        image=image,
        intrinsics=intrinsics,
        depth=depth,
        world_from_cam=world_from_cam,
        unit=row.unit,
        mask=mask,
        sample=sample,
        index=index,
    )


def _content(row: ManifestRow, view: View) -> str:
    return content_hash(
        image_hash(view.image),
        depth=view.depth,
        intrinsics=view.intrinsics,
        world_from_cam=view.world_from_cam,
        unit=row.unit,
        mask=view.mask,
    )


def _stands(row: ManifestRow, root: Path, stamps: Mapping[str, Stamp]) -> bool:
    names = [name for name in (row.image_path, row.depth_path, row.mask_path) if name]
    try:
        return all(stamps.get(name) == Stamp.of(file_of(root, name)) for name in names)
    except FileNotFoundError:
        return False


def _shape_bytes(values: np.ndarray) -> bytes:
    return repr(values.shape).encode()


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        # With its length: two parts must not read like two others that join to the same bytes.
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
